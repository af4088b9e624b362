"""OPIS: how differently one threshold works for different classes."""

from collections.abc import Iterator

import torch
from torch import Tensor

from lossary._core.objective import widen, without_autocast
from lossary._core.parameters import Fraction, PositiveCount, checked
from lossary._core.registry import unit
from lossary._fast.dispatch import ACCELERATOR_BLOCK
from lossary._fast.pairs import rule as pairs_rule
from lossary.errors import InvalidValueError
from lossary.metrics._pairwise import check_labelled, class_sizes, finish

_CELLS = 1 << 16  # of the range of cosines, in which a threshold is looked for
_STEPS = 1 << 22  # of a cosine, to which it is rounded; a multiple of the cells


@unit(kind="diagnostic", declares={"bounds": (0.0, 0.25), "empty": 0.0})
@checked("opis")
def opis(
    embedding: Tensor, labels: Tensor, *, far_range: tuple[float, float] = (1e-2, 1e-1), points: PositiveCount = 101
) -> Tensor:
    r"""Operating-point inconsistency score: how differently one threshold works for different classes.

    .. math:: \frac{1}{T C} \sum_{t} \sum_{c} \bigl( U_c(t) - \bar U(t) \bigr)^2

    U of a class is the harmonic mean of the share of its positive pairs that a threshold of the cosine accepts and the share of its
    negative ones that it rejects; the thresholds are evenly spaced over the range in which the share of all negative pairs that are
    accepted lies in ``far_range``. The pairs of a class are those with at least one sample of it, a reading, as the paper does not
    say; classes of one sample are left out. Papers report it times 1,000. It varies much from seed to seed. It works on blocks
    of rows.

    Args:
        embedding: of the samples.
        labels: their classes.
        far_range: the smallest and the largest false accept rate of interest.
        points: how many thresholds there are.
    Shape: embedding (N, D); labels (N,) integers; the result is a scalar, 0 with fewer than two classes of two samples.
    Units: squared utilities, of which 0.25 is the most.
    Errors: a shape or dtype other than these, or a range that is none, is a ``LossaryError``.
    Source: Zhang, Xu, Tang, Fang, Wu, Tighe and Xing, "Threshold-Consistent Margin Loss for Open-World Deep Metric Learning", 2023.

    >>> x = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.5, 0.5]])
    >>> opis(x, torch.tensor([0, 0, 1, 1]), far_range=(0.1, 0.9))
    tensor(0.0188)
    """
    utility = _utilities("opis", embedding, labels, far_range, points)
    value = (utility - utility.mean(0)).square().mean() if utility.numel() else utility.sum()
    return finish(value, embedding)


@unit(kind="diagnostic", declares={"bounds": (0.0, 1.0), "empty": 0.0})
@checked("epsilon_opis")
def epsilon_opis(
    embedding: Tensor,
    labels: Tensor,
    *,
    epsilon: Fraction = 0.1,
    far_range: tuple[float, float] = (1e-2, 1e-1),
    points: PositiveCount = 101,
) -> Tensor:
    r"""How far apart the worst and the best classes are at one threshold.

    .. math:: \frac1T \sum_t \bigl| U_{\mathrm{worst}}(t) - U_{\mathrm{best}}(t) \bigr|

    with the mean utility of the share epsilon of classes with the least utility, and of that with the most, at each threshold;
    what the utility and the thresholds are is said at :func:`opis`. The form is a reading, as the paper does not give it.

    Args:
        embedding: of the samples.
        labels: their classes.
        epsilon: the share of classes at each end, at least one.
        far_range: the smallest and the largest false accept rate of interest.
        points: how many thresholds there are.
    Shape: embedding (N, D); labels (N,) integers; the result is a scalar, 0 with fewer than two classes of two samples.
    Units: utilities, in [0, 1].
    Errors: a shape or dtype other than these, or a range that is none, is a ``LossaryError``.
    Source: Zhang, Xu, Tang, Fang, Wu, Tighe and Xing, "Threshold-Consistent Margin Loss for Open-World Deep Metric Learning", 2023.

    >>> x = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.5, 0.5]])
    >>> epsilon_opis(x, torch.tensor([0, 0, 1, 1]), far_range=(0.1, 0.9))
    tensor(0.0863)
    """
    utility = _utilities("epsilon_opis", embedding, labels, far_range, points)
    if not utility.numel():
        return finish(utility.sum(), embedding)
    count = max(1, round(epsilon * len(utility)))
    ascending = utility.sort(0).values
    return finish((ascending[-count:].mean(0) - ascending[:count].mean(0)).mean(), embedding)


def _utilities(owner: str, embedding: Tensor, labels: Tensor, far_range: tuple[float, float], points: int) -> Tensor:
    """The utility of each class at each threshold (classes, points)."""
    check_labelled(owner, embedding, labels)
    low, high = far_range
    if not 0 < low <= high < 1:
        raise InvalidValueError(f"{owner}: far_range must be two numbers with 0 < low <= high < 1, got {far_range!r}")
    _, of_sample, count = class_sizes(labels)
    kept = count > 1
    if int(kept.sum()) < 2:
        return torch.zeros(0, points, device=labels.device)
    y, order = of_sample.sort(stable=True)
    x, last = pairs_rule.unit(widen(embedding.detach()))[order], count.cumsum(0)[y]
    # Where the pooled false accept rate is what it should be: from how many negative pairs lie in each of many cells.
    cells = torch.zeros(_CELLS, dtype=torch.int64, device=labels.device)
    for _, s, *_ in _pairs_of_ordered(x, last):
        cells += torch.histc(s, _CELLS, -1.0, 1.0).long()
    accepted = cells.flip(0).cumsum(0).flip(0) / cells.sum()  # by a threshold at the lower edge of each cell
    ends = [int((accepted >= rate).sum()) / (_CELLS / 2) - 1 for rate in (high, low)]
    thresholds = torch.linspace(ends[0], ends[1], points, device=labels.device, dtype=torch.float32)
    # How many pairs of each class lie between two thresholds. Most negative ones are below all of them, and need not be sorted.
    size = points + 1
    between = torch.zeros(2, len(count) * size, dtype=torch.int64, device=labels.device)
    for start, s, row, cosine in _pairs_of_ordered(x, last):
        _count(between[0], y[row] * size + torch.bucketize(cosine.float(), thresholds, right=True))
        cosine = s.float().flatten()
        place = (cosine >= thresholds[0]).nonzero().squeeze(1)
        row, column = place.div(s.shape[1], rounding_mode="floor") + start, place % s.shape[1] + start
        interval = torch.bucketize(cosine[place], thresholds, right=True)
        for sample in (row, column):
            _count(between[1], y[sample] * size + interval)
    between = between.view(2, len(count), size)
    between[1, :, 0] = count * (len(x) - count) - between[1].sum(1)
    above = between.flip(2).cumsum(2).flip(2)
    share = above[..., 1:] / above[..., :1].clamp_min(1)
    accept, reject = share[0], 1 - share[1]
    return (2 * accept * reject / (accept + reject).clamp_min(1e-12))[kept]


def _count(counts: Tensor, place: Tensor) -> None:
    counts.index_add_(0, place, torch.ones_like(place))


def _pairs_of_ordered(x: Tensor, last: Tensor) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
    """Each pair of unit rows once, in blocks: the place of a block's first row, and its rows' cosines with all from there on.

    The rows are in the order of their classes, of which ``last`` is the place after each row's. Positive pairs are -inf there, and
    follow as a list of their first rows and one of their cosines.
    """
    n, transposed = len(x), x.T.contiguous()
    size = pairs_rule.BLOCK if x.device.type == "cpu" else min(ACCELERATOR_BLOCK, 1 << 24)  # beyond, float32 does not count
    with without_autocast(x):
        start = 0
        while start < n:
            stop = min(n, start + max(pairs_rule.FEWEST_ANCHORS, size // (n - start)))
            s = (x[start:stop] @ transposed[:, start:]).clamp_(-1, 1)
            s.mul_(_STEPS).round_().div_(_STEPS)  # else rounding decides on which side of a threshold 0.5 lies
            places = torch.arange(start, int(last[stop - 1]), device=x.device)
            near, alike = s[:, : len(places)], places < last[start:stop, None]
            row, column = (alike & (places > places[: stop - start, None])).nonzero().unbind(1)
            cosine = near[row, column]
            near.masked_fill_(alike, -torch.inf)
            yield start, s, row + start, cosine
            start = stop
