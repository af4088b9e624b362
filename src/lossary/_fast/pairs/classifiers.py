"""Softmax losses of very many classes that never hold the scores (N, C), nor their gradient.

A loss with a margin is, for a hard label, a formula of two numbers of a sample: its score with its own class, and the logarithm of
the sum over the others. Tiles of samples by classes that stay in a core's cache are enough for both. The gradient by the
embeddings is gathered on the same way, and that by the classes, which wants to know first what each sample counts, computes the
tiles again: four matrix products in the place of three, for the memory of the scores and the time to pass over them.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from lossary._core.objective import average_over_kept, class_indices, widen, without_autocast
from lossary._fast import dispatch
from lossary._fast.pairs.rule import unit

LARGE = 1 << 24  # scores that would take 64 MiB
ROWS = 256  # of a tile, enough for a matrix product to be fast


def never_whole(embedding: Tensor, weight: Tensor, target: Tensor, label_smoothing: float) -> bool:
    """Whether there are so many scores, and each sample has one class alone."""
    if target.is_floating_point() or label_smoothing or dispatch.whole_only(embedding, weight, target):
        return False
    return embedding.shape[0] * weight.shape[0] > LARGE


def average_of_margins(
    embedding: Tensor,
    weight: Tensor,
    target: Tensor,
    scale: float | Tensor,
    own_score: Callable[[Tensor], Tensor],
    *,
    beside: Tensor | None = None,
    class_weight: Tensor | None,
    ignore_index: int,
    reduction: str,
) -> Tensor:
    """log(1 + e^(others - own_score(z_y))) of each sample, by the rule for weights and means.

    Args:
        own_score: what a score with the own class counts.
        beside: the logarithm of what is in everybody's sum besides.
    """
    index, ignored = class_indices(target, ignore_index)
    x = widen(embedding)
    with without_autocast(x):
        own, others = _OwnAndOthers.apply(scale * unit(x), unit(weight.to(x.dtype)), index)[:2]  # type: ignore[no-untyped-call]
    if beside is not None:
        others = torch.logaddexp(others, beside)
    per_sample = torch.nn.functional.softplus(others - own_score(own), threshold=40)
    if class_weight is not None:
        class_weight = class_weight.to(per_sample.dtype)
        per_sample = per_sample * class_weight[index]
    return average_over_kept(per_sample, index, ignored, class_weight, reduction)


def _plain(x: Tensor, w: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    z, at = x @ w.T, index.unsqueeze(1)
    return z.gather(1, at).squeeze(1), z.scatter(1, at, -torch.inf).logsumexp(1)


def _tiles(x: Tensor, w: Tensor, index: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
    """Scores of some samples with some classes, -inf at the own one, in room that the next tile takes again."""
    size = dispatch.BLOCK if x.device.type == "cpu" else dispatch.ACCELERATOR_BLOCK
    rows = min(len(x), ROWS if x.device.type == "cpu" else size)
    columns = min(len(w), max(1, size // rows))
    room = x.new_empty(rows * columns)
    for top in range(0, len(x), rows):
        block, at = x[top : top + rows], index[top : top + rows]
        for left in range(0, len(w), columns):
            classes = w[left : left + columns]
            z = torch.mm(block, classes.T, out=room[: len(block) * len(classes)].view(len(block), len(classes)))
            place = (at - left).clamp(0, len(classes) - 1).unsqueeze(1)
            here = (at >= left) & (at < left + len(classes))
            z.scatter_(1, place, z.gather(1, place).masked_fill_(here.unsqueeze(1), -torch.inf))
            yield slice(top, top + len(block)), slice(left, left + len(classes)), z


class _OwnAndOthers(torch.autograd.Function):
    """The score with the own class (N,), the logarithm of the sum over the others (N,), and the mean of those, weighted (N, D)."""

    @staticmethod
    def forward(x: Tensor, w: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        largest = x.new_full((len(x), 1), torch.finfo(x.dtype).min / 2)
        total, mean = torch.zeros_like(largest), torch.zeros_like(x)
        for rows, classes, z in _tiles(x, w, index):
            now = torch.maximum(largest[rows], z.amax(1, keepdim=True))
            shrink = (largest[rows] - now).exp_()
            z.sub_(now).exp_()
            total[rows] = total[rows].mul_(shrink).add_(z.sum(1, keepdim=True))
            mean[rows] = mean[rows].mul_(shrink).addmm_(z, w[classes])
            largest[rows] = now
        total.clamp_min_(torch.finfo(x.dtype).tiny)
        own = torch.einsum("nd,nd->n", x, w.index_select(0, index))
        return own, (largest + total.log()).squeeze(1), mean.div_(total)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: tuple[Tensor, Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[2])
        ctx.save_for_backward(*inputs, *output[1:])

    @staticmethod
    def backward(ctx: Any, by_own: Tensor, by_others: Tensor, _: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, w, index, others, mean = ctx.saved_tensors
        if torch.is_grad_enabled():  # somebody wants to differentiate the gradient
            pulled = torch.func.vjp(lambda x, w: _plain(x, w, index), x, w)[1]((by_own, by_others))
            return pulled[0], pulled[1], None
        by_x, by_w = None, None
        if ctx.needs_input_grad[0]:
            by_x = (mean * by_others.unsqueeze(1)).addcmul_(w[index], by_own.unsqueeze(1))
        if ctx.needs_input_grad[1]:
            by_w = torch.zeros_like(w)
            for rows, classes, z in _tiles(x, w, index):
                z.sub_(others[rows, None]).exp_().mul_(by_others[rows, None])
                by_w[classes].addmm_(z.T, x[rows])
            by_w.index_add_(0, index, x * by_own.unsqueeze(1))
        return by_x, by_w, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Tensor) -> Any:
        stacked = [dispatch.mapped_first(each, dim, info.batch_size) for each, dim in zip(inputs, in_dims, strict=True)]
        found = [_OwnAndOthers.apply(*each) for each in zip(*stacked, strict=True)]  # type: ignore[no-untyped-call]
        return tuple(torch.stack(parts) for parts in zip(*found, strict=True)), (0, 0, 0)
