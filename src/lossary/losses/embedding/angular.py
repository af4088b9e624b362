"""Angular loss: the angle at the negative, in the triangle that it spans with a positive pair, is to be small."""

import math
from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor

from lossary._core.objective import reduce, widen, without_autocast
from lossary._core.parameters import Interval, Reduction, formula
from lossary._core.registry import objective
from lossary._fast import dispatch
from lossary._fast.pairs import rule as pairs_rule
from lossary._fast.pairs.rule import against_all, unit
from lossary.distributed import Group, total
from lossary.losses.embedding._common import MetricObjective, check_embedding_and_labels

Angle = Annotated[float, Interval(low=0.0, high=60.0, open_low=True)]
MOST = 256  # items of a tile: the product of all of them with each other is to cost no more than their similarities


@formula
def angular(
    embedding: Tensor, labels: Tensor, *, alpha: Angle = 40.0, group: Group = None, reduction: Reduction = "mean"
) -> Tensor:
    """The pure function behind :class:`AngularLoss`, with the same parameters."""
    check_embedding_and_labels("angular", embedding, labels)
    given = against_all("angular", unit(widen(embedding)), labels=labels, group=group)
    x: Tensor = given.get("items", given["anchors"])
    item_labels: Tensor = given.get("item_labels", labels)
    own = given.get("own", torch.arange(len(embedding), device=x.device))
    square = math.tan(math.radians(alpha)) ** 2
    with without_autocast(x):
        if reduction == "none":
            return _costs(x, item_labels, own, square, False)[0]
        cost, count = _costs(x, item_labels, own, square, True)
    return reduce(total("angular", cost, group), total("angular", count, group), reduction)


# For a positive pair the sum over the negatives of exp(4 t (s_in + s_pn)), with t the squared tangent, is the product of the rows
# i and p of a matrix, exp(4 t s) with zeros where labels are the same. As t is at most 3, exp(4 t (s - 1)) is at least exp(-24),
# which float32 holds, and so is a product of two of them.


def _exponentials(s: Tensor, square: float) -> Tensor:
    return (s - 1).mul(4 * square).exp()


def _logits(products: Tensor, usable: Tensor, s: Tensor, square: float) -> Tensor:
    """The logarithm of what is added to 1 in the loss of each pair."""
    return products.masked_fill(~usable, 1.0).log() + 8 * square - 2 * (1 + square) * s


def _costs(x: Tensor, labels: Tensor, own: Tensor, square: float, summed: bool) -> tuple[Tensor, Tensor]:
    """Of the anchors, which are the items ``own``, the sums over their positives and their numbers, or both added up."""
    if not dispatch.untransformed(x, labels, own) or torch._C._len_torch_dispatch_stack() or len(own) * len(x) <= pairs_rule.SMALL:
        return _whole(x, labels, own, square, summed)
    wanted = torch.is_grad_enabled() and x.requires_grad
    found: tuple[Tensor, ...] = _InTiles.apply(x, labels, own, square, summed, wanted)  # type: ignore[no-untyped-call]
    return found[0], found[1]


def _whole(x: Tensor, labels: Tensor, own: Tensor, square: float, summed: bool) -> tuple[Tensor, Tensor]:
    s, same = x @ x.T, labels[:, None] == labels
    of_items = _exponentials(s, square).masked_fill(same, 0.0)
    products = of_items[own] @ of_items.T
    usable = same[own] & (own[:, None] != torch.arange(len(x), device=x.device)) & (products > 0)
    each = torch.nn.functional.softplus(_logits(products, usable, s[own], square)).masked_fill(~usable, 0.0)
    count = usable.sum(1).to(s.dtype)
    return (each.sum(), count.sum()) if summed else (each.sum(1), count)


class _Tile(NamedTuple):
    """Places of the items in the order of their labels: anchors, positives, and whole classes that hold both."""

    anchors: slice
    positives: slice
    classes: slice


def _tiles(sizes: list[int], most: int) -> Iterator[_Tile]:
    """Every positive pair is in one tile: several small classes are a tile, and a large one is cut into several."""
    start = stop = 0
    for size in [*sizes, most + 1]:  # the last is nobody's, and ends the one before it
        if stop > start and stop - start + size > most:
            classes = slice(start, stop)
            cuts = [slice(at, min(at + most, stop)) for at in range(start, stop, most)]
            yield from (_Tile(anchors, positives, classes) for anchors in cuts for positives in cuts)
            start = stop
        stop += size


class _InTiles(torch.autograd.Function):
    """The same in tiles, which need no more than two matrices of a tile's items by all items.

    Classes have to be looked at for it, so an accelerator is waited for once. A sum brings its gradient with it; costs of anchors
    are computed again for it.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, labels: Tensor, own: Tensor, square: float, summed: bool, wanted: bool
    ) -> tuple[Tensor, Tensor]:
        ones = torch.ones_like(x[:, 0]) if summed and wanted else None
        cost, count, slopes = _sweep(x, labels, own, square, ones)
        ctx.square, ctx.summed = square, summed
        ctx.save_for_backward(x, labels, own, slopes)
        found = (cost.sum(), count.sum()) if summed else (cost, count)
        ctx.mark_non_differentiable(found[1])
        return found

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        x, labels, own, slopes = ctx.saved_tensors
        if torch.is_grad_enabled():  # somebody wants to differentiate the gradient

            def whole(x: Tensor) -> Tensor:
                return _whole(x, labels, own, ctx.square, ctx.summed)[0]

            pulled: tuple[Tensor] = torch.func.vjp(whole, x)[1](upstream)
            return (pulled[0], *[None] * 5)
        if ctx.summed:
            return (slopes * upstream, *[None] * 5)
        spread = torch.zeros_like(x[:, 0]).index_copy_(0, own, upstream)
        return (_sweep(x, labels, own, ctx.square, spread)[2], *[None] * 5)


def _sweep(x: Tensor, labels: Tensor, own: Tensor, square: float, upstream: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """The anchors' costs and numbers of pairs, and the gradient of their product with what flows back to each item as an anchor."""
    ascending, order = labels.sort(stable=True)
    sizes = ascending.unique_consecutive(return_counts=True)[1].tolist()
    x, back = x.detach()[order], torch.empty_like(order).index_copy_(0, order, torch.arange(len(x), device=x.device))
    mine, alone = torch.zeros_like(labels, dtype=torch.bool).index_fill_(0, own, True)[order], len(own) == len(x)
    # How many anchors there are before each item, read once.
    before = [] if alone else torch.nn.functional.pad(mine.cumsum(0), (1, 0)).tolist()
    flowing = None if upstream is None else upstream[order]
    cost, count = (torch.zeros_like(x[:, 0]) for _ in range(2))
    slopes = None if upstream is None else torch.zeros_like(x)
    block = pairs_rule.BLOCK if x.device.type == "cpu" else dispatch.ACCELERATOR_BLOCK
    transposed = x.T.contiguous()  # which the product reads faster

    def exponentials(rows: slice, classes: slice) -> Tensor:
        found = torch.mm(x[rows], transposed).sub_(1).mul_(4 * square).exp_()
        found[:, classes].masked_fill_(ascending[rows, None] == ascending[classes], 0.0)
        return found

    for rows, columns, classes in _tiles(sizes, min(MOST, max(pairs_rule.FEWEST_ANCHORS, block // len(x)))):
        if not alone and before[rows.start] == before[rows.stop]:
            continue
        of_anchors = exponentials(rows, classes)
        of_positives = of_anchors if rows == columns else exponentials(columns, classes)
        products = of_anchors @ of_positives.T
        usable = (ascending[rows, None] == ascending[columns]) & mine[rows, None] & (products > 0)
        if rows == columns:
            usable.fill_diagonal_(False)
        z = _logits(products, usable, x[rows] @ transposed[:, columns], square)
        cost[rows] += torch.nn.functional.softplus(z).masked_fill_(~usable, 0.0).sum(1)
        count[rows] += usable.sum(1)
        if flowing is None or slopes is None:
            continue
        by_logit = z.sigmoid_().mul_(flowing[rows, None]).masked_fill_(~usable, 0.0)
        by_product = by_logit / products.masked_fill_(~usable, 1.0)
        if rows == columns:
            by_product += by_product.T.clone()
        by_s = torch.mm(by_product, of_positives).mul_(of_anchors).mul_(4 * square)
        by_s[:, columns] -= 2 * (1 + square) * by_logit
        slopes[rows].addmm_(by_s, x)
        slopes.addmm_(by_s.T, x[rows])
        if rows != columns:
            by_s = torch.mm(by_product.T, of_anchors).mul_(of_positives).mul_(4 * square)
            slopes[columns].addmm_(by_s, x)
            slopes.addmm_(by_s.T, x[columns])
    return cost[back][own], count[back][own], None if slopes is None else slopes[back]


@objective(
    family="embedding",
    function=angular,
    soft_targets=False,
    decomposable=False,
    spatial=False,
    link="value",
    distributed="inexact",
    tune={"alpha": (30.0, 55.0)},
)
class AngularLoss(MetricObjective):
    r"""Angular loss: the angle at the negative, in the triangle that it spans with a positive pair, is to be small.

    .. math::
        \frac{1}{|P|} \sum_{(i, p) \in P} \log \Bigl( 1 + \sum_{n \in N_i}
        e^{4 \tan^2 \alpha \, (x_i + x_p) \cdot x_n - 2 (1 + \tan^2 \alpha) \, x_i \cdot x_p} \Bigr)

    with x embeddings of length one, P the positive pairs and N the samples of other classes. The exponent is, up to a constant, the
    squared distance of the pair less that of the negative from the pair's middle, times four and the squared tangent: it is above
    the constant where half the pair is seen from the negative at an angle above alpha. An angle bounds the sides of a triangle
    relative to each other, so that it fits classes of any spread, where a margin of distances fits some of them.

    The paper has one positive for each anchor; here all positive pairs take part, as in the library PyTorch Metric Learning.
    That one takes the negatives with the length that they come with, although anchors and positives have length one: values and
    gradients differ unless embeddings are normalized before. It also holds every positive pair against every sample, which is
    the cube of the batch where classes are few. Here the sum over the negatives is a product of two rows of one matrix, exp(4
    tan² alpha s) with zeros within classes, and nothing is larger than a block of its rows.

    Args:
        alpha: the angle, in degrees. With 45 a negative is to lie outside of the circle whose diameter is the pair; more than 60,
            which lets it come near the middle, is refused. The paper tries 36 to 55.
        group: the processes whose samples are items too, each process having its own anchors: None for this one alone, ``"world"``,
            or a process group; the mean over the processes of the loss and of every gradient is what one would find on all samples.
        reduction: over the positive pairs; ``"none"`` gives each anchor's sum over its positives.
    Shape: embedding (N, D); labels (N,) integers.
    Units: nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Wang, Zhou, Wen, Liu and Lin, "Deep Metric Learning with Angular Loss", 2017.

    >>> AngularLoss()(torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]), torch.tensor([0, 0, 1]))
    tensor(0.8026)
    """

    def __init__(self, *, alpha: Angle = 40.0, group: Group = None, reduction: Reduction = "mean"):
        super().__init__(alpha=alpha, group=group, reduction=reduction)
