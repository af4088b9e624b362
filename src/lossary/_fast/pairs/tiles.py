"""Paired losses in closed form, tile by tile, in one process or over the ring of several.

Sigmoid and softmax contrast look at nothing but the scores z_ij = scale a_i . b_j + bias of all rows with all items, with the
positive of each row on the diagonal, and their derivatives by a score are known. So a tile of scores is made, looked at, turned
into its derivative and multiplied back into both sides while it is in the cache, and nothing as large as N x N ever is. Over
several processes the rows stay and the items travel, with what has been gathered about them.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from lossary._core.checks import check_pair
from lossary._core.objective import widen, without_autocast
from lossary._fast import dispatch
from lossary._fast.dispatch import loops_available
from lossary._fast.pairs.rule import unit
from lossary.distributed import Ring
from lossary.errors import InvalidValueError

SMALL = 1 << 16  # scores up to which the whole matrix takes less time than a loop over tiles
ROWS, COLUMNS = 512, 1024  # of a tile: large enough for matrix products, small enough for a core's cache
WHOLE_ROWS = 1 << 21  # scores of a tile with all items
ACCELERATOR = 1 << 12  # rows and columns of a tile where starting an operation costs more than a cache saves


def paired_inputs(owner: str, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both (N, D), at least in float32 and of one dtype, each row of length one."""
    check_pair(owner, a, b)
    dtype = torch.promote_types(widen(a).dtype, widen(b).dtype)
    return unit(a.to(dtype)), unit(b.to(dtype))


class Scores(NamedTuple):
    """What all tiles are made of: unit rows and items, what turns a cosine into a score, and with whom the items are shared."""

    a: Tensor
    b: Tensor
    log_scale: Tensor
    bias: Tensor | None
    ring: Ring
    columns: int | None = None  # of a tile at most, where the caller has a wish

    @property
    def scale(self) -> Tensor:
        return self.log_scale.exp().to(self.a.dtype)

    @property
    def differentiable(self) -> bool:
        """Whether somebody will ask for the gradient."""
        inputs = (self.a, self.b, self.log_scale, self.bias)
        return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs)

    def detached(self) -> "Scores":
        bias = None if self.bias is None else self.bias.detach().to(self.a.dtype)
        return self._replace(a=self.a.detach(), b=self.b.detach(), log_scale=self.log_scale.detach(), bias=bias)

    def reduced(self, found: Tensor, reduction: str) -> Tensor:
        """The loss of each row as it is, or their sum as a part of what all processes find together."""
        return found if reduction == "none" else self.ring.reduced(found, reduction)

    @property
    def plain(self) -> bool:
        """Whether the whole matrix takes less time, or is what somebody wants to transform."""
        if self.ring.size > 1:
            return False
        return not dispatch.untransformed(*self[:4]) or self.a.shape[0] * self.b.shape[0] <= SMALL

    def matrix(self) -> Tensor:
        """All scores (N, N)."""
        z = (self.a * self.scale) @ self.b.T
        return z if self.bias is None else z + self.bias


class _Tile(NamedTuple):
    z: Tensor
    rows: slice
    columns: slice
    diagonal: int | None  # where the positives are, if there are any


def _steps(count: int, step: int) -> Iterator[slice]:
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def _tiles(scores: Scores, items: Tensor, own: bool, whole_rows: bool = False) -> Iterator[tuple[_Tile, Tensor]]:
    """The tiles of all rows with some items, each with its rows of ``scale a``."""
    a, n, m = scores.a, scores.a.shape[0], items.shape[0]
    height, width = (ROWS, COLUMNS) if a.device.type == "cpu" else (ACCELERATOR, ACCELERATOR)
    width = min(width, scores.columns or width)
    if whole_rows:
        height, width = max(64, (WHOLE_ROWS if a.device.type == "cpu" else ACCELERATOR**2) // max(m, 1)), m
    room = a.new_empty(min(height, n) * min(width, m))
    for rows in _steps(n, height):
        x = a[rows] * scores.scale
        for columns in _steps(m, max(width, 1)):
            z = room[: len(x) * (columns.stop - columns.start)].view(len(x), -1)
            torch.mm(x, items[columns].T, out=z)
            if scores.bias is not None:
                z.add_(scores.bias)
            first = rows.start - columns.start
            crosses = own and -len(x) < first < z.shape[1]
            yield _Tile(z, rows, columns, first if crosses else None), x


class _Slopes:
    """The gradient of both sides and of the two numbers, gathered tile by tile."""

    def __init__(self, scores: Scores):
        self.scores = scores
        self.by_a, self.by_b = torch.zeros_like(scores.a), torch.zeros_like(scores.b)
        self.by_bias = scores.a.new_zeros(())

    def add(self, tile: _Tile, x: Tensor, items: Tensor, by_items: Tensor) -> None:
        self.by_a[tile.rows].addmm_(tile.z, items[tile.columns])
        by_items[tile.columns].addmm_(tile.z.T, x)
        if self.scores.bias is not None:
            self.by_bias += tile.z.sum()

    def finished(self, factor: Tensor | float = 1.0) -> list[Tensor]:
        """By a, b, the logarithm of the scale and the bias, each times a factor."""
        self.by_a.mul_(self.scores.scale * factor)
        self.by_b.mul_(factor)
        return [self.by_a, self.by_b, torch.linalg.vecdot(self.scores.a, self.by_a).sum(), self.by_bias * factor]


# Sigmoid contrast.


def sigmoid_contrast(scores: Scores, *, summed: bool) -> Tensor:
    """For each row, -log sigmoid(z) of its positive and -log sigmoid(-z) of every other item, added up; or the sum over rows."""
    with without_autocast(scores.a):
        if scores.plain:
            rows = _sigmoid_rows(scores.matrix())
            return rows.sum() if summed else rows
        found: Tensor = _Sigmoid.apply(*scores[:4], scores, summed, scores.differentiable)  # type: ignore[no-untyped-call]
    return found


def _sigmoid_rows(z: Tensor) -> Tensor:
    return softplus(_negatives(z), threshold=40).sum(1) + softplus(-z.diagonal(), threshold=40)


def _negatives(z: Tensor) -> Tensor:
    """The scores, with -inf for the positives."""
    return z.masked_fill(torch.eye(*z.shape, dtype=torch.bool, device=z.device), -torch.inf)


class _Sigmoid(torch.autograd.Function):
    """A score's derivative asks for nothing but the score: the sum brings its gradient with it."""

    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, log_scale: Tensor, bias: Tensor, scores: Scores, summed: bool, differentiable: bool
    ) -> Tensor:
        ctx.ring, ctx.columns, ctx.summed = scores.ring, scores.columns, summed
        value, slopes = _sigmoid_sweep(scores.detached(), None, with_slopes=summed and differentiable)
        ctx.save_for_backward(a, b, log_scale, bias, *(slopes.finished() if slopes is not None else ()))
        return value.sum() if summed else value

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Any, ...]:
        if torch.is_grad_enabled():
            return (*_second_order(ctx, _sigmoid_rows, upstream), None, None, None)
        if ctx.summed:
            found = [x * upstream for x in ctx.saved_tensors[4:]]
        else:
            found = _slopes(_sigmoid_sweep(_scores_of(ctx).detached(), upstream, with_slopes=True)[1]).finished()
        return (*_wanted(ctx, found), None, None, None)


def _sigmoid_sweep(scores: Scores, upstream: Tensor | None, with_slopes: bool) -> tuple[Tensor, _Slopes | None]:
    value = scores.a.new_zeros(scores.a.shape[0])
    slopes = _Slopes(scores) if with_slopes else None
    for rank, (items,), carried in scores.ring.tour((scores.b,), () if slopes is None else (slopes.by_b,)):
        for tile, x in _tiles(scores, items, rank == scores.ring.rank):
            positive = None if tile.diagonal is None else _positives(tile)
            if positive is not None:
                positive.neg_()
            _sum_softplus(tile.z, value[tile.rows], slope=slopes is not None)
            if slopes is None:
                continue
            if positive is not None:
                positive.neg_()
            if upstream is not None:
                tile.z.mul_(upstream[tile.rows, None])
            slopes.add(tile, x, items, carried[0])
    return value, slopes


def _positives(tile: _Tile) -> Tensor:
    """The diagonal as it crosses a tile, as a view."""
    return torch.diagonal(tile.z, tile.diagonal or 0)


def _slopes(found: _Slopes | None) -> _Slopes:
    assert found is not None
    return found


def _scores_of(ctx: Any) -> Scores:
    a, b, log_scale, bias = ctx.saved_tensors[:4]
    return Scores(a, b, log_scale, bias, ctx.ring, ctx.columns)


def _wanted(ctx: Any, found: list[Tensor]) -> list[Tensor | None]:
    """Of the gradients by a, b, log_scale and bias those that are asked for, in the dtype of what they belong to."""
    inputs = ctx.saved_tensors[:4]
    asked = zip(found, inputs, ctx.needs_input_grad[:4], strict=True)
    return [gradient.to(given.dtype) if needed else None for gradient, given, needed in asked]


def _second_order(ctx: Any, of_scores: Any, *upstream: Tensor | None) -> list[Tensor | None]:
    """The gradient by plain operations on the whole matrix, for somebody who wants to differentiate it."""
    ring: Ring = ctx.ring
    if ring.size > 1:
        raise InvalidValueError("a loss over several processes has no second derivatives: group must be None for them")
    given = [x for x in ctx.saved_tensors[:4] if x is not None]

    def plain(a: Tensor, b: Tensor, log_scale: Tensor, *bias: Tensor) -> Any:
        scores = Scores(a, b, log_scale, bias[0] if bias else None, ring)
        found = of_scores(scores.matrix())
        found = found if isinstance(found, tuple) else (found,)
        if ctx.summed:
            found = tuple(x.sum() for x in found)
        return tuple(x for x, each in zip(found, upstream, strict=True) if each is not None)

    pulled = torch.func.vjp(plain, *given)[1](tuple(each for each in upstream if each is not None))
    return [*pulled, *[None] * (4 - len(given))]


# Softmax contrast.


def softmax_contrast(scores: Scores, *, both: bool, summed: bool) -> tuple[Tensor, ...]:
    """For each row, -log of its positive's softmax over all items; with ``both`` for each item too, over all rows; or the sums."""
    with without_autocast(scores.a):
        if scores.plain:
            found = _softmax_both(scores.matrix()) if both else (_softmax_rows(scores.matrix()),)
            return tuple(x.sum() for x in found) if summed else found
        out = _Softmax.apply(*scores[:3], scores, both, summed, scores.differentiable)  # type: ignore[no-untyped-call]
    return tuple(out) if both else (out,)


def _softmax_rows(z: Tensor) -> Tensor:
    # The negatives are added up without the positive: what they are to a positive that is nearly certain would be lost in its sum.
    return softplus(_negatives(z).logsumexp(1) - z.diagonal(), threshold=40)


def _softmax_both(z: Tensor) -> tuple[Tensor, Tensor]:
    return _softmax_rows(z), _softmax_rows(z.T)


class _Softmax(torch.autograd.Function):
    """A tile's derivative asks for the log-sum-exp of its rows (and items), so that scores are made twice: once to find them.

    Where a tile can hold whole rows, and only rows are asked for, once is enough.
    """

    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, log_scale: Tensor, scores: Scores, both: bool, summed: bool, differentiable: bool
    ) -> Any:
        ctx.ring, ctx.columns, ctx.both, ctx.summed = scores.ring, scores.columns, both, summed
        ctx.set_materialize_grads(False)
        scores = scores.detached()
        positive = torch.linalg.vecdot(scores.a, scores.b).mul_(scores.scale)
        if summed and not both and scores.ring.size == 1 and differentiable:
            rows, slopes = _whole_row_sweep(scores, positive)
            ctx.save_for_backward(a, b, log_scale, None, *slopes.finished())
            return rows.sum()
        ahead = [each.sub_(positive) for each in _log_sums_of_negatives(scores, both)]
        ctx.save_for_backward(a, b, log_scale, None, positive, *ahead)
        value = [softplus(each, threshold=40) for each in ahead]
        value = [each.sum() for each in value] if summed else value
        return tuple(value) if both else value[0]

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Any, ...]:
        if torch.is_grad_enabled():
            return (*_second_order(ctx, _softmax_both if ctx.both else _softmax_rows, *upstream)[:3], None, None, None, None)
        if ctx.summed and not ctx.both and ctx.ring.size == 1:
            found = [x * (0 if upstream[0] is None else upstream[0]) for x in ctx.saved_tensors[4:]]
        else:
            positive, *ahead = ctx.saved_tensors[4:]
            each = [torch.zeros_like(positive) if x is None else x.expand(len(positive)).contiguous() for x in upstream]
            found = _softmax_gradient(_scores_of(ctx).detached(), positive, ahead, each).finished()
        return (*_wanted(ctx, found)[:3], None, None, None, None)


def _whole_row_sweep(scores: Scores, positive: Tensor) -> tuple[Tensor, _Slopes]:
    """The losses of the rows, and the gradient of their sum."""
    value, slopes = torch.empty_like(positive), _Slopes(scores)
    for tile, x in _tiles(scores, scores.b, own=True, whole_rows=True):
        diagonal = _positives(tile).fill_(-torch.inf)
        largest = tile.z.amax(1)
        sums = _exponentials(tile.z, largest)
        ahead = sums.log().add_(largest).sub_(positive[tile.rows])
        value[tile.rows] = softplus(ahead, threshold=40)
        log_sums = value[tile.rows] + positive[tile.rows]
        tile.z.mul_(largest.sub_(log_sums).exp_().unsqueeze(1))
        diagonal.copy_(ahead.sigmoid_().neg_())
        slopes.add(tile, x, scores.b, slopes.by_b)
    return value, slopes


def _log_sums_of_negatives(scores: Scores, both: bool) -> list[Tensor]:
    """The log-sum-exps of the negatives of this process's rows, and of its items."""
    n, m = scores.a.shape[0], scores.b.shape[0]
    rows = (scores.a.new_full((n,), -torch.inf), scores.a.new_zeros(n))
    own = (scores.a.new_full((m,), -torch.inf), scores.a.new_zeros(m))
    for rank, (items,), columns in scores.ring.tour((scores.b,), own if both else ()):
        for tile, _ in _tiles(scores, items, rank == scores.ring.rank):
            if tile.diagonal is not None:
                _positives(tile).fill_(-torch.inf)
            _merge(tile.z, 1, rows, tile.rows)
            if both:
                _merge(tile.z, 0, columns, tile.columns)
    return [sums.log() + largest for largest, sums in ((rows, own) if both else (rows,))]


def _softmax_gradient(scores: Scores, positive: Tensor, ahead: list[Tensor], upstream: list[Tensor]) -> _Slopes:
    """The gradient, from how far the negatives' log-sum-exps are ahead of the positives, for rows and items."""
    slopes = _Slopes(scores)
    log_sums = [positive + softplus(each, threshold=40) for each in ahead]
    to_positive = -torch.stack([each.sigmoid() * flow for each, flow in zip(ahead, upstream, strict=True)]).sum(0)
    beside = (log_sums[1], upstream[1].contiguous()) if len(ahead) == 2 else ()
    for rank, (items, *of_items), (by_items,) in scores.ring.tour((scores.b, *beside), (slopes.by_b,)):
        for tile, x in _tiles(scores, items, rank == scores.ring.rank):
            columns = [each[tile.columns] for each in of_items]
            _weigh(tile.z, log_sums[0][tile.rows], upstream[0][tile.rows], *columns)
            if tile.diagonal is not None:
                first = tile.rows.start + max(0, -tile.diagonal)
                diagonal = _positives(tile)
                diagonal.copy_(to_positive[first : first + len(diagonal)])
            slopes.add(tile, x, items, by_items)
    return slopes


# What is done with the scores of a tile: in compiled loops, or in plain operations for other dtypes and devices.


def _compiled(z: Tensor) -> bool:
    return z.is_cpu and z.dtype == torch.float32 and loops_available()


def _sum_softplus(z: Tensor, sums: Tensor, slope: bool) -> None:
    """Add the softplus of each row to its sum; with ``slope`` the scores become their sigmoids."""
    if _compiled(z):
        from lossary._fast.pairs import tile_loops

        tile_loops.sum_softplus(z.numpy(), sums.numpy(), slope)
        return
    sums += softplus(z, threshold=40).sum(1)
    if slope:
        z.sigmoid_()


def _merge(z: Tensor, dim: int, state: tuple[Tensor, ...], where: slice) -> None:
    """Take a tile into the running largest and sum of exponentials of its rows (dim 1) or columns (dim 0)."""
    largest, sums = state[0][where], state[1][where]
    new = torch.maximum(largest, z.amax(dim)).clamp_min_(torch.finfo(z.dtype).min)  # of a positive alone it would be -inf
    if _compiled(z):
        from lossary._fast.pairs import tile_loops

        merge = tile_loops.merge_rows if dim else tile_loops.merge_columns
        merge(z.numpy(), largest.numpy(), sums.numpy(), new.numpy())
        return
    part = (z - new.unsqueeze(dim)).exp_().sum(dim)
    sums.mul_((largest - new).exp_()).add_(part)
    largest.copy_(new)


def _exponentials(z: Tensor, largest: Tensor) -> Tensor:
    """The scores become exponentials relative to the largest of their row, whose sum is returned."""
    if not _compiled(z):
        return z.sub_(largest.unsqueeze(1)).exp_().sum(1)
    from lossary._fast.pairs import tile_loops

    sums = torch.empty_like(largest)
    tile_loops.exponentials(z.numpy(), largest.numpy(), sums.numpy())
    return sums


def _weigh(
    z: Tensor, log_sums: Tensor, flow: Tensor, column_log_sums: Tensor | None = None, column_flow: Tensor | None = None
) -> None:
    """The scores become their share of the row's exponentials times what flows to the row, and of the column's if there are any."""
    arguments = [log_sums, flow, *(each for each in (column_log_sums, column_flow) if each is not None)]
    if _compiled(z):
        from lossary._fast.pairs import tile_loops

        weigh = tile_loops.weigh_rows if column_flow is None else tile_loops.weigh_both
        weigh(z.numpy(), *(each.numpy() for each in arguments))
        return
    by_rows = (z - log_sums.unsqueeze(1)).exp_().mul_(flow.unsqueeze(1))
    if column_log_sums is None or column_flow is None:
        z.copy_(by_rows)
    else:
        z.sub_(column_log_sums).exp_().mul_(column_flow).add_(by_rows)
