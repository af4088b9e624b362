"""Squared Euclidean distances of all pairs, as exact for close pairs as for distant ones.

A matrix product gives |a - b|² = |a|² + |b|² - 2 a·b for all pairs at once, with an error of some units in the last place of
|a|² + |b|². A distance far below the lengths has no digits left then, and a duplicate is not at distance 0. So the squares of
pairs that the product finds close are computed anew, from the differences of their features.

Their choice depends on data, which compiled, traced and transformed programs cannot follow, and for which an accelerator would
have to wait. These compute the product in float64, whose error is far below the spacing of float32 embeddings.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from lossary._core.objective import double_dtype
from lossary._fast import dispatch

CLOSE = 2.0**-8  # share of |a|² + |b|² below which a square is computed from differences: float32 leaves 15 bits there
CHUNK = 1 << 18  # features of close pairs whose differences are held at once


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """The squared distances (N, M) of the rows of a (N, D) and b (M, D), as one matrix; differentiable."""
    if not _may_choose(a, b):
        return _from_products(a, b)
    found: Tensor = _SquaredDistances.apply(a, b)  # type: ignore[no-untyped-call]
    return found


def distances(squares: Tensor) -> Tensor:
    """The square roots, without a gradient at 0, where a distance has no direction."""
    apart = squares > 0
    return torch.where(apart, torch.where(apart, squares, 1.0).sqrt(), 0.0)


def blocks_of_squares(a: Tensor, b: Tensor, step: int) -> Iterator[tuple[slice, Tensor]]:
    """The squared distances of ``step`` rows of a at a time with all rows of b, in room that the next block takes again."""
    a, b = a.detach(), b.detach()
    if not _may_choose(a, b):
        for start in range(0, a.shape[0], step):
            yield slice(start, start + step), _from_products(a[start : start + step], b)
        return
    transposed, lengths = b.T.contiguous(), b.square().sum(1)
    room = a.new_empty(min(step, a.shape[0]), b.shape[0])
    for start in range(0, a.shape[0], step):
        block = a[start : start + step]
        out = room[: block.shape[0]]
        fill_squares(block, b, transposed, lengths, out)
        yield slice(start, start + step), out


def _may_choose(a: Tensor, b: Tensor) -> bool:
    """Whether which pairs are close may be looked at: no program is recorded or transformed, and nobody waits for it.

    Without float64, as on Apple's devices, waiting is the lesser evil.
    """
    if not dispatch.untransformed(a, b) or torch._C._len_torch_dispatch_stack():
        return False
    return a.device.type in ("cpu", "mps")


def _from_products(a: Tensor, b: Tensor) -> Tensor:
    """By the widest product that the device has. What is as small as its error is 0, so that duplicates are."""
    wide = double_dtype(a.device)
    x, y = a.to(wide), b.to(wide)
    lengths = x.square().sum(1, keepdim=True) + y.square().sum(1)
    squares = lengths - 2 * x @ y.T
    error = 4 * torch.finfo(wide).eps * max(1, a.shape[1]) ** 0.5
    return torch.where(squares > error * lengths, squares, 0.0).to(a.dtype)


def fill_squares(a: Tensor, b: Tensor, transposed: Tensor, lengths: Tensor, out: Tensor) -> None:
    """Writes the squared distances of a block (B, D) and b (M, D), whose squared lengths are given (M,), into out (B, M)."""
    if a.is_cpu and a.dtype == torch.float32 and dispatch.loops_available():
        from lossary._fast.pairs import distance_loops

        torch.mm(a, transposed, out=out)
        arrays = (x.numpy() for x in (out, a, b, a.square().sum(1), lengths))
        distance_loops.squares(*arrays, CLOSE)
    else:
        _fill_plainly(a, b, transposed, lengths, out)


def _fill_plainly(a: Tensor, b: Tensor, transposed: Tensor, lengths: Tensor, out: Tensor) -> None:
    own = a.square().sum(1, keepdim=True)
    torch.addmm(lengths, a, transposed, alpha=-2, out=out).add_(own)
    i, j = (torch.sub(out, lengths, alpha=CLOSE) <= CLOSE * own).nonzero(as_tuple=True)
    step = max(1, CHUNK // max(1, a.shape[1]))
    for start in range(0, len(i), step):
        rows, columns = i[start : start + step], j[start : start + step]
        out.index_put_((rows, columns), (a[rows] - b[columns]).square_().sum(1))


class _SquaredDistances(torch.autograd.Function):
    """The same for a whole matrix, whose close pairs would take much memory if autograd followed them."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        out = a.new_empty(a.shape[0], b.shape[0])
        fill = fill_squares if out.numel() > dispatch.SMALL else _fill_plainly  # a loop takes long to load
        fill(a, b, b.T, b.square().sum(1), out)
        return out

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        a, b = ctx.saved_tensors
        by_a = by_b = None
        if ctx.needs_input_grad[0]:
            by_a = 2 * (a * upstream.sum(1, keepdim=True) - upstream @ b)
        if ctx.needs_input_grad[1]:
            by_b = 2 * (b * upstream.sum(0).unsqueeze(1) - upstream.T @ a)
        return by_a, by_b
