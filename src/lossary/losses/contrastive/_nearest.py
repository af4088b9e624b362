"""A few items of each anchor: which are nearest, found in blocks, and their similarities, with a gradient."""

from typing import Any

import torch
from torch import Tensor

from lossary._fast import dispatch
from lossary._fast.pairs import rule as pairs_rule
from lossary._fast.pairs.rule import Pairs, over_rows


def nearest(
    count: int,
    anchors: Tensor,
    items: Tensor | None = None,
    labels: Tensor | None = None,
    item_labels: Tensor | None = None,
    own: Tensor | None = None,
) -> Tensor:
    """The ``count`` items (N, count) of another label that are most similar to each anchor, the nearest first.

    Without labels, of all but the anchor's own item. There have to be as many. The tensors are those that
    :func:`lossary._fast.pairs.rule.over_rows` takes.
    """

    def row(s: Tensor, pairs: Pairs) -> tuple[Tensor, ...]:
        return s.masked_fill(~pairs.negative, -torch.inf).topk(count, dim=1).indices.unbind(1)

    if count == 0:
        return torch.zeros(anchors.shape[0], 0, dtype=torch.int64, device=anchors.device)
    with torch.no_grad():
        return torch.stack(over_rows(row, anchors, items, labels=labels, item_labels=item_labels, own=own), 1)


def similarities_at(anchors: Tensor, items: Tensor, index: Tensor) -> Tensor:
    """The products (N, K) of each anchor (N, D) with its chosen items (M, D), without room for (N, K, D)."""
    if dispatch.whole_only(anchors, items, index) or index.numel() * anchors.shape[1] <= pairs_rule.SMALL:
        return (anchors.unsqueeze(1) * items[index]).sum(2)
    found: Tensor = _At.apply(anchors, items, index)  # type: ignore[no-untyped-call]
    return found


class _At(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(anchors: Tensor, items: Tensor, index: Tensor) -> Tensor:
        return torch.cat([(anchors[rows].unsqueeze(1) * items[index[rows]]).sum(2) for rows in _rows(anchors, index)])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        anchors, items, index = ctx.saved_tensors
        by_anchors = by_items = None
        if ctx.needs_input_grad[0]:
            by_anchors = torch.cat([(upstream[rows].unsqueeze(2) * items[index[rows]]).sum(1) for rows in _rows(anchors, index)])
        if ctx.needs_input_grad[1]:
            by_items = torch.zeros_like(items)
            for rows in _rows(anchors, index):
                parts = upstream[rows].unsqueeze(2) * anchors[rows].unsqueeze(1)
                by_items = by_items.index_add(0, index[rows].flatten(), parts.flatten(0, 1))
        return by_anchors, by_items, None


def _rows(anchors: Tensor, index: Tensor) -> list[slice]:
    """Slices of the anchors whose chosen items take about a block."""
    size = pairs_rule.BLOCK if anchors.is_cpu else dispatch.ACCELERATOR_BLOCK
    step = max(1, size // max(1, index.shape[1] * anchors.shape[1]))
    return [slice(start, start + step) for start in range(0, anchors.shape[0], step)]
