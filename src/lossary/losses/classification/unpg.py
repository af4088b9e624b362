"""Unified negative pairs: a margin softmax that is also pushed from the cross-class pairs of the batch."""

import math
from collections.abc import Iterator
from typing import Annotated, Literal

import torch
from torch import Tensor

from lossary._core.checks import check_undivided
from lossary._core.objective import average_over_kept, class_indices, widen, without_autocast
from lossary._core.parameters import Fraction, NonNegative, OneOf, Positive, PositiveCount, SetReduction, Vector, formula
from lossary._core.registry import objective
from lossary._fast import dispatch
from lossary._fast.classes.rule import Rows, average_over_rows
from lossary._fast.pairs.classifiers import average_of_margins, never_whole
from lossary._fast.pairs.rule import BLOCK, SMALL, Pairs, log_sum_exp, over_rows, unit
from lossary.losses.classification._common import masses, without_ignored
from lossary.losses.classification._embedding import (
    CosineClassifier,
    check_embedding_and_index,
    log_sum_of_others,
    of_one_class,
    scaled_cosines,
)
from lossary.losses.classification.arcface import Angle, with_angular_margin

Base = Annotated[Literal["arcface", "cosface"], OneOf(("arcface", "cosface"))]


@formula
def unpg(
    embedding: Tensor,
    target: Tensor,
    weight: Tensor,
    *,
    base: Base = "arcface",
    scale: Positive = 64.0,
    margin: Angle = 0.5,
    whisker: NonNegative | None = 1.5,
    class_weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: Fraction = 0.0,
    reduction: SetReduction = "mean",
) -> Tensor:
    """The pure function behind :class:`UNPGLoss`, with the same parameters and class directions ``weight`` (C, D)."""
    check_embedding_and_index("unpg", embedding, target, weight, class_weight)
    check_undivided("unpg", embedding)
    embedding = without_ignored(embedding, target, ignore_index)
    index, ignored = class_indices(target, ignore_index)
    x = widen(embedding)  # once, so that both of its gradients are added up before they are rounded
    pairs = log_sum_of_cross_class_pairs(unit(x), index, ~ignored, scale, whisker)

    def own(logits: Tensor) -> Tensor:
        return with_angular_margin(logits, scale, margin) if base == "arcface" else logits - scale * margin

    if never_whole(embedding, weight, target, label_smoothing):
        return average_of_margins(
            x,
            weight,
            target,
            scale,
            own,
            beside=pairs,
            class_weight=class_weight,
            ignore_index=ignore_index,
            reduction=reduction,
        )
    logits = scaled_cosines(x, weight, scale)
    last = 2 * scale  # so much lower, every logit is the lowest
    if not label_smoothing:

        def if_class(row: Rows) -> Tensor:
            return torch.nn.functional.softplus(
                torch.logaddexp(log_sum_of_others(row, last), pairs) - own(row.logits), threshold=40
            )

        return average_over_rows(
            logits,
            target,
            if_class,
            needs=("logits", "log_p"),
            margin=last,
            weight=class_weight,
            ignore_index=ignore_index,
            label_smoothing=0.0,
            reduction=reduction,
        )

    def if_class_beside(row: Rows) -> Tensor:
        return torch.nn.functional.softplus(log_sum_of_others(row, last) - own(row.logits), threshold=40)

    # The pairs are part of the loss of every class, so here they are one more column, which is nobody's target.
    column = pairs.clamp_min(-last - 80.0).expand(logits.shape[0], 1)
    q, _ = masses(target, logits, ignore_index, label_smoothing)
    factors = None if class_weight is None else torch.cat([class_weight.to(logits.dtype), logits.new_ones(1)])
    per_sample = average_over_rows(
        torch.cat([logits, column], 1),
        torch.cat([q, torch.zeros_like(column)], 1),
        if_class_beside,
        needs=("logits", "log_p"),
        margin=last,
        weight=factors,
        ignore_index=ignore_index,
        label_smoothing=0.0,
        reduction="none",
    )
    return average_over_kept(per_sample, index, ignored, None if factors is None else factors[:-1], reduction)


def log_sum_of_cross_class_pairs(x: Tensor, index: Tensor, kept: Tensor, scale: float, whisker: float | None) -> Tensor:
    """The logarithm of the sum of e^(scale cos) over the unordered pairs of unit vectors of two classes; -inf if there are none."""
    low, high = (None, None) if whisker is None or not len(x) else whiskers(x.detach(), index, kept, whisker)

    def row(cosine: Tensor, pairs: Pairs) -> tuple[Tensor]:
        (counts, *bounds), (others,) = pairs.anchor_sides, pairs.item_sides
        chosen = ~of_one_class(pairs) & counts[:, None] & others
        if bounds:
            chosen = chosen & (cosine >= bounds[0][:, None]) & (cosine <= bounds[1][:, None])
        return (log_sum_exp(scale * cosine, chosen),)

    bounds = () if low is None or high is None else (low.expand(len(x)), high.expand(len(x)))
    (of_anchors,) = over_rows(row, x, labels=index, anchor_sides=(kept, *bounds), item_sides=(kept,))
    return log_sum_exp(of_anchors.unsqueeze(0)).squeeze(0) - math.log(2)  # every pair was met from both sides


def whiskers(x: Tensor, index: Tensor, kept: Tensor, whisker: float) -> tuple[Tensor, Tensor]:
    """The quartiles of the cosines of cross-class pairs, moved apart by ``whisker`` times their distance."""
    if not dispatch.untransformed(x, index, kept) or x.shape[0] ** 2 <= SMALL:
        chosen = _chosen(slice(0, len(x)), index, kept)
        with without_autocast(x):
            ascending = (x @ x.T).masked_fill(~chosen, torch.inf).flatten().sort().values
        count = chosen.sum()
        ranks = torch.stack([count // 4, count * 3 // 4]).clamp_max(len(ascending) - 1)
        first, third = ascending.gather(0, ranks)
    else:
        first, third = _quartiles(x, index, kept)
    return first - whisker * (third - first), third + whisker * (third - first)


def _chosen(rows: slice, index: Tensor, kept: Tensor) -> Tensor:
    """Which later samples each sample of a block makes a cross-class pair with."""
    place = torch.arange(len(index), device=index.device)
    return (place[rows, None] < place) & (index[rows, None] != index) & kept[rows, None] & kept


def _occurrences(digit: Tensor, chosen: Tensor) -> Tensor:
    """How often each number of 16 bits occurs among the chosen ones, without waiting for an accelerator."""
    if digit.is_cpu:
        return torch.bincount(digit[chosen], minlength=1 << 16)
    found = torch.zeros((1 << 16) + 1, dtype=torch.int64, device=digit.device)  # the last one for what is not chosen
    at = torch.where(chosen, digit, 1 << 16).long().flatten()
    return found.scatter_add_(0, at, torch.ones_like(at))[:-1]


def _quartiles(x: Tensor, index: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Two order statistics, exactly, without all values at once.

    The bits of a floating-point number, read as an integer, are in its order, so its 16 leading bits are found by counting, then
    the next 16 among the numbers that begin with these: two passes over the pairs in single precision, four in double.
    """
    kind = torch.int64 if x.dtype == torch.float64 else torch.int32
    bits = 8 * x.element_size()

    def keys() -> Iterator[tuple[Tensor, Tensor]]:
        step = max(1, (BLOCK if x.is_cpu else dispatch.ACCELERATOR_BLOCK) // len(x))
        for start in range(0, len(x), step):
            with without_autocast(x):
                key = (x[start : start + step] @ x[start:].T).view(kind)
            key ^= (key >> (bits - 1)) & torch.iinfo(kind).max  # negative numbers count downwards
            yield key, _chosen(slice(start, start + step), index, kept)[:, start:]

    prefix: list[Tensor] = []  # the leading bits found so far, of both
    rank: list[Tensor] = []
    for shift in range(bits - 16, -1, -16):
        counts = [x.new_zeros(1 << 16, dtype=torch.int64) for _ in range(2 if prefix else 1)]
        for key, chosen in keys():
            for place, count in enumerate(counts):
                if prefix:
                    count += _occurrences((key >> shift) & 0xFFFF, chosen & ((key >> (shift + 16)) == prefix[place]))
                else:
                    count += _occurrences((key >> shift) + (1 << 15), chosen)
        if not prefix:
            total = counts[0].sum()
            rank, counts = [total // 4, total * 3 // 4], counts * 2
        for place, count in enumerate(counts):
            up_to = count.cumsum(0)
            digit = torch.searchsorted(up_to, rank[place], right=True).clamp_max((1 << 16) - 1)
            rank[place] = rank[place] - (up_to[digit] - count[digit])
            if len(prefix) < 2:
                prefix.append(digit - (1 << 15))
            else:
                prefix[place] = (prefix[place] << 16) + digit
    key = torch.stack(prefix).to(kind)
    first, third = (key ^ ((key >> (bits - 1)) & torch.iinfo(kind).max)).view(x.dtype)
    return first, third


@objective(
    family="classification",
    function=unpg,
    soft_targets=False,
    decomposable=False,
    spatial=False,
    distributed="inexact",
    tune={"scale": (5.0, 64.0), "margin": (0.05, 0.6)},
)
class UNPGLoss(CosineClassifier):
    r"""Unified negative pairs: a margin softmax whose negatives are the other classes and the cross-class pairs of the batch.

    .. math::
        \ell(x, y) = \log\Bigl(1 + e^{-z_y} \Bigl(
        \sum_{c \ne y} e^{s \cos\theta_c} + \sum_{(i, j) \in K} e^{s \cos(x_i, x_j)} \Bigr)\Bigr)

    with z of ArcFace, s cos(theta + m), or of CosFace, s (cos theta - m), and with K the pairs of two classes in the batch whose
    cosines are no outliers by a box plot: between q1 - r IQR and q3 + r IQR, with the quartiles as order statistics and no gradient
    through the choice. A classifier with its own weights, and a function of the batch as a whole: the same pairs stand in the
    denominator of every sample, so they enter as one number. Never below the base loss, and equal to it where the batch has one
    class. It wants large batches and many classes. Neither the cosines nor the quartiles ever hold N x N numbers of a large batch.
    As in ``arcface``, theta + m beyond pi is taken care of, which the authors' program leaves out. With several processes, each has
    the pairs of its own part of the batch.

    Args:
        num_classes: how many classes there are.
        embedding_dim: the width D of the embedding.
        base: the margin softmax, ``"arcface"`` or ``"cosface"``.
        scale: s, the inverse temperature of the cosines.
        margin: m, in radians or in units of the cosine.
        whisker: r, how far beyond the quartiles a pair may be; None keeps all pairs.
        class_weight: the weights of the classes, ``weight`` in :class:`torch.nn.CrossEntropyLoss`; ``weight`` are the directions.
        ignore_index: samples of this class are left out, also of pairs.
        label_smoothing: as in :class:`torch.nn.CrossEntropyLoss`.
        reduction: ``"mean"`` or ``"sum"`` over samples.
    Shape: embedding (N, D); target (N,) class indices.
    Units: nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Jung, Lee, Oh, Park, Park and Son, "Unified Negative Pair Generation toward Well-discriminative Feature Space for Face
        Recognition", 2022.

    >>> loss = UNPGLoss(num_classes=2, embedding_dim=2, base="cosface", scale=1.0, margin=0.0)
    >>> _ = torch.nn.init.eye_(loss.weight)
    >>> loss(torch.eye(2), torch.tensor([0, 1])).detach()  # log(1 + (1 + 1) / e): another class and a pair, both at right angles
    tensor(0.5514)
    """

    def __init__(
        self,
        *,
        num_classes: PositiveCount,
        embedding_dim: PositiveCount,
        base: Base = "arcface",
        scale: Positive = 64.0,
        margin: Angle = 0.5,
        whisker: NonNegative | None = 1.5,
        class_weight: Vector | None = None,
        ignore_index: int = -100,
        label_smoothing: Fraction = 0.0,
        reduction: SetReduction = "mean",
    ):
        super().__init__(
            num_classes=num_classes,
            embedding_dim=embedding_dim,
            base=base,
            scale=scale,
            margin=margin,
            whisker=whisker,
            class_weight=class_weight,
            ignore_index=ignore_index,
            label_smoothing=label_smoothing,
            reduction=reduction,
        )
