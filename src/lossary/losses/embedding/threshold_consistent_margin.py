"""Threshold-consistent margin: hard pairs are pushed over two fixed similarities, so that one threshold fits all classes."""

from collections.abc import Callable

from torch import Tensor, nn

from lossary._core.parameters import NonNegative, Real, SetReduction, formula
from lossary._core.registry import create, objective
from lossary._fast.pairs.once import sums_over_pairs
from lossary._fast.pairs.rule import Kernel, Pairs
from lossary.distributed import Group
from lossary.errors import InvalidTypeError
from lossary.losses.embedding._common import MetricObjective, check_embedding_and_labels, cosines, mean_of_sides


@formula
def threshold_consistent_margin(
    embedding: Tensor,
    labels: Tensor,
    *,
    positive_margin: Real = 0.9,
    negative_margin: Real = 0.5,
    positive_weight: NonNegative = 1.0,
    negative_weight: NonNegative = 1.0,
    base: str | nn.Module | None = None,
    group: Group = None,
    reduction: SetReduction = "mean",
) -> Tensor:
    """The pure function behind :class:`ThresholdConsistentMarginLoss`, with the same parameters."""
    check_embedding_and_labels("threshold_consistent_margin", embedding, labels)

    def row(s: Tensor, pairs: Pairs) -> tuple[Tensor, ...]:
        low, high = pairs.positive & (s <= positive_margin), pairs.negative & (s >= negative_margin)
        below = (positive_margin - s).masked_fill(~low, 0.0).sum(1)
        above = (s - negative_margin).masked_fill(~high, 0.0).sum(1)
        return below, above, low.sum(1).to(s.dtype), high.sum(1).to(s.dtype)

    kernel = Kernel(_loop, 4, (positive_margin, negative_margin), symmetric=True)
    below, above, low_count, high_count = sums_over_pairs(
        **cosines("threshold_consistent_margin", row, kernel, embedding, labels, group)
    )
    sides = [(positive_weight * below, low_count), (negative_weight * above, high_count)]
    found = mean_of_sides("threshold_consistent_margin", sides, group, reduction)
    added = _as_module("threshold_consistent_margin", base)
    return found if added is None else found + added(embedding, labels)


def _as_module(owner: str, base: object) -> nn.Module | None:
    if base is None or isinstance(base, nn.Module):
        return base
    if isinstance(base, str):
        return create(base)
    raise InvalidTypeError(f"{owner}: base must be the name of an objective, a module or None, got {type(base).__name__}")


def _loop() -> Callable[..., None]:
    from lossary._fast.pairs import loops as pairs_loops

    return pairs_loops.threshold_consistent_margin  # type: ignore[no-any-return]


@objective(
    family="embedding",
    function=threshold_consistent_margin,
    soft_targets=False,
    decomposable=False,
    spatial=False,
    link="value",
    distributed="inexact",
    tune={"positive_weight": (0.1, 3.0), "negative_weight": (0.1, 3.0)},
)
class ThresholdConsistentMarginLoss(MetricObjective):
    r"""Threshold-consistent margin: pushes hard pairs over two fixed similarities, so that one threshold fits all classes.

    .. math:: \frac{w_+}{|S_+|} \sum_{(i, j) \in S_+} (m_+ - s_{ij}) + \frac{w_-}{|S_-|} \sum_{(i, j) \in S_-} (s_{ij} - m_-)

    with s the cosine, S+ the pairs of one label with s at most m+, and S- the pairs of different labels with s at least m-. A side
    without such pairs is 0. It is a term that is added to a loss of metric learning, the ``base``; alone it knows no more than the
    two margins. What it is for, and a recall it may cost, is measured by :func:`lossary.metrics.opis`. Its memory does not grow
    with the square of the batch.

    Args:
        positive_margin, negative_margin: the similarities m+ and m-.
        positive_weight, negative_weight: the weights of both sides.
        base: the name of an objective, or a module called as ``base(embedding, labels)``, that is added.
        group: the processes whose samples are items too, each process having its own anchors: None for this one alone, ``"world"``,
            or a process group; the mean over the processes of the loss and of every gradient is what one would find on all samples.
        reduction: ``"mean"`` as above, or ``"sum"`` over the hard pairs.
    Shape: embedding (N, D); labels (N,) integers.
    Units: cosines.
    Errors: a shape or dtype other than these, a parameter outside its range, or an unknown base is a ``LossaryError``.
    Source: Zhang, Xu, Tang, Fang, Wu, Tighe and Xing, "Threshold-Consistent Margin Loss for Open-World Deep Metric Learning", 2023.

    >>> loss = ThresholdConsistentMarginLoss()
    >>> loss(torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]), torch.tensor([0, 0, 1]))
    tensor(0.6000)
    """

    def __init__(
        self,
        *,
        positive_margin: Real = 0.9,
        negative_margin: Real = 0.5,
        positive_weight: NonNegative = 1.0,
        negative_weight: NonNegative = 1.0,
        base: str | nn.Module | None = None,
        group: Group = None,
        reduction: SetReduction = "mean",
    ):
        super().__init__(
            positive_margin=positive_margin,
            negative_margin=negative_margin,
            positive_weight=positive_weight,
            negative_weight=negative_weight,
            base=_as_module(self.name, base),
            group=group,
            reduction=reduction,
        )
