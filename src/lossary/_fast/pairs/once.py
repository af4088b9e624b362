"""Losses that add up a number of each pair, whichever of the two is the anchor: each pair is met once.

The similarities of a batch with itself are a symmetric matrix, and a loss that only adds them up, each turned into a number by
itself, needs half of it. So the items, sorted by their labels, are cut into tiles, and a tile of anchors meets its own items and
those after it; what is found with the latter counts twice. As positives and negatives each have a gradient of their own, which
is made while a tile of similarities is in the cache, nothing is computed again, whatever a loss divides the two sums by; and a tile
in which no pair costs anything has no gradient to multiply out.

That is half a matrix product for the similarities and at most one for the gradient, where rows of anchors take four.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lossary._fast import dispatch
from lossary._fast.pairs import rule as pairs_rule
from lossary._fast.pairs.distances import fill_squares, squared_distances
from lossary._fast.pairs.rule import Kernel, Pairs, Row, add_pull, over_rows

TILE = 192  # items at each side of a tile: 144 KiB, which a core's cache holds beside their embeddings


def sums_over_pairs(
    row: Row,
    anchors: Tensor,
    items: Tensor | None = None,
    *,
    labels: Tensor,
    item_labels: Tensor | None = None,
    own: Tensor | None = None,
    squares: bool = False,
    kernel: Kernel,
) -> tuple[Tensor, ...]:
    """The sums over the anchors of the numbers that :func:`over_rows` gives; the first two have a gradient, the others none.

    Takes what :func:`over_rows` takes. Where a batch is compared with itself and the kernel is symmetric, each pair is met once.
    """
    alone = items is None and item_labels is None and own is None and kernel.symmetric
    plain = not dispatch.whole_only(anchors, labels) and anchors.is_cpu and anchors.dtype == torch.float32
    if not (alone and plain and anchors.shape[0] ** 2 > pairs_rule.SMALL and dispatch.loops_available()):
        numbers = over_rows(row, anchors, items, labels=labels, item_labels=item_labels, own=own, squares=squares, kernel=kernel)
        return tuple(number.sum() if place < 2 else number.detach().sum() for place, number in enumerate(numbers))
    wanted = torch.is_grad_enabled() and dispatch.has_gradient(anchors)
    with torch.autocast("cpu", enabled=False):
        found: tuple[Tensor, ...] = _OncePerPair.apply(row, kernel, squares, wanted, anchors, labels)  # type: ignore[no-untyped-call]
    return found[: kernel.numbers]


class _OncePerPair(torch.autograd.Function):
    """Returns the sums, then the order of the items, and in this order the gradients of the first two if they are wanted."""

    @staticmethod
    def forward(row: Row, kernel: Kernel, squares: bool, wanted: bool, anchors: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        def swept(anchors: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
            return _sweep(kernel, squares, anchors.detach(), labels, wanted)

        done: tuple[Tensor, ...] = dispatch.call_compiled(swept, anchors, labels)
        return done

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.row, kernel, ctx.squares, _, anchors, labels = inputs
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*output[2:])
        ctx.save_for_backward(anchors, labels, *output[kernel.numbers :])

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, ...]:
        anchors, labels, order, *slopes = ctx.saved_tensors
        flowing = [(place, each) for place, each in enumerate(upstream[:2]) if each is not None]
        if not flowing:
            return (None,) * 6
        if torch.is_grad_enabled():  # somebody wants to differentiate the gradient

            def whole(x: Tensor) -> tuple[Tensor, ...]:
                s = squared_distances(x, x) if ctx.squares else x @ x.T
                numbers = ctx.row(s, _all_pairs(labels))
                return tuple(numbers[place].sum() for place, _ in flowing)

            pulled: tuple[Tensor] = torch.func.vjp(whole, anchors)[1](tuple(each for _, each in flowing))
            return (None, None, None, None, pulled[0], None)
        total = slopes[flowing[0][0]] * flowing[0][1]
        for place, each in flowing[1:]:
            total.addcmul_(slopes[place], each)
        return None, None, None, None, torch.empty_like(total).index_copy_(0, order, total), None

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[Any, ...],
        row: Row,
        kernel: Kernel,
        squares: bool,
        wanted: bool,
        anchors: Tensor,
        labels: Tensor,
    ) -> tuple[Any, Any]:
        each = []
        for place in range(info.batch_size):
            own = (x if dim is None else x.select(dim, place) for x, dim in zip((anchors, labels), in_dims[4:], strict=True))
            each.append(_OncePerPair.apply(row, kernel, squares, wanted, *own))  # type: ignore[no-untyped-call]
        return tuple(torch.stack(parts) for parts in zip(*each, strict=True)), (0,) * len(each[0])


def _all_pairs(labels: Tensor) -> Pairs:
    places = torch.arange(labels.shape[0], device=labels.device)
    return Pairs(places, places, labels, labels, shape=(len(places), len(places)))


def _sweep(kernel: Kernel, squares: bool, anchors: Tensor, labels: Tensor, wanted: bool) -> tuple[Tensor, ...]:
    loop, n = kernel.load(), anchors.shape[0]
    labels, order = labels.long().sort()
    first, last = (torch.searchsorted(labels, labels, right=right).numpy() for right in (False, True))
    x = anchors[order]
    slopes = [torch.zeros_like(x) for _ in range(2)] if wanted else []
    numbers, room = np.zeros((n, kernel.numbers), np.float32), x.new_empty(TILE * TILE)
    lengths = x.square().sum(1)
    own, nobody = np.arange(TILE), np.full(TILE, -1)
    # Whatever flows back from a pair does so from both of its anchors.
    upstream = np.full((TILE if wanted else 0, kernel.numbers), 2, np.float32)
    for top in range(0, n, TILE):
        rows = slice(top, min(top + TILE, n))
        height = rows.stop - top
        found = np.empty((height, kernel.numbers), np.float32)
        for left in range(top, n, TILE):
            columns = slice(left, min(left + TILE, n))
            width = columns.stop - left
            s = room[: height * width].view(height, width)
            if squares:
                fill_squares(x[rows], x[columns], x[columns].T, lengths[columns], s)
            else:
                torch.mm(x[rows], x[columns].T, out=s)
            a, b = (np.minimum(np.maximum(each[rows] - left, 0), width) for each in (first, last))
            loop(s.numpy(), a, b, (own if left == top else nobody)[:height], upstream[:height], found, *kernel.constants)
            numbers[rows] += found if left == top else 2 * found
            if not wanted:
                continue
            near, far = (bool(found[:, side::2].any()) for side in range(2))
            if near and far:
                same = labels[rows, None] == labels[columns]
                parts = [(slopes[0], s * same), (slopes[1], s.masked_fill_(same, 0.0))]
            else:
                parts = [(slopes[0], s)] * near + [(slopes[1], s)] * far
            for slope, tile in parts:
                add_pull(slope[rows], tile, x[rows], x[columns], squares)
                if left > top:  # else both directions are in the tile
                    add_pull(slope[columns], tile.T, x[columns], x[rows], squares)
    return (*torch.from_numpy(numbers).sum(0).unbind(), order, *slopes)
