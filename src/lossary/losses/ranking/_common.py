"""What losses of lists share: their inputs, their gains, and a way to work list by list.

The n items of a list make n x n pairs, which for a batch of lists is more than anything else in training. No list knows of
another, so only a few lists at a time have to be in memory, with their pairs and their gradient, which is no longer than the list.
Where there is a loop for a list in closed form, Numba compiles it; else autograd differentiates plain operations on a block of
lists. Small batches, and whatever ``torch.compile`` sees, take the plain operations on the whole, which is also what second
derivatives are made of.
"""

import functools
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from lossary import _blocks
from lossary._checks import check_floating, check_shape, check_tensor, shape_text
from lossary._objective import Objective, reduce, widen
from lossary.errors import InvalidTypeError, InvalidValueError

# (scores, constants...) -> the loss of each list. Every tensor has the lists in dimension 0.
Plain = Callable[..., Tensor]
# (scores, constants..., whether the gradient is wanted) -> the loss of each list, and its gradient or nothing
Kernel = Callable[..., tuple[Tensor, Tensor]]
SMALL = 1 << 15  # pairs up to which plain operations on the whole take less time than anything else
BLOCK = 1 << 16  # pairs of a block, of which autograd keeps several


class RankingObjective(Objective):
    """Lists of items: ``loss(scores, relevance, mask)``. Only the order of the scores means something."""

    consumes: ClassVar[str] = "logits"

    def forward(self, scores: Tensor, relevance: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.function(scores, relevance, mask, **self.hyperparameters())

    def link(self, output: Tensor) -> Tensor:
        return output


class Lists(NamedTuple):
    """Lists as losses want them; all (lists, items)."""

    scores: Tensor  # float32 or wider; 0 for padding, whatever it held
    relevance: Tensor  # of the same dtype; 0 for padding
    real: Tensor  # bool


def check_lists(owner: str, scores: Tensor, relevance: Tensor, mask: Tensor | None) -> Lists:
    """Scores, relevance and mask (lists, items), checked. Without a mask, items of negative relevance are padding."""
    check_both(owner, scores, relevance, "relevance")
    relevance = relevance.to(widen(scores).dtype)
    return lists_of(owner, scores, relevance, ~(relevance < 0) if mask is None else mask)


def check_both(owner: str, scores: Tensor, other: Tensor, argument: str) -> None:
    """Scores (lists, items), and real numbers of the same shape."""
    check_floating(owner, "scores", scores)
    check_tensor(owner, argument, other)
    if scores.ndim != 2:
        raise InvalidValueError(f"{owner}: scores must have shape (lists, items), got {shape_text(tuple(scores.shape))}")
    check_shape(owner, argument, other, tuple(scores.shape))
    if other.is_complex():
        raise InvalidTypeError(f"{owner}: {argument} must be real, got {other.dtype}")


def lists_of(owner: str, scores: Tensor, relevance: Tensor, mask: Tensor | None) -> Lists:
    """The lists of what the mask calls real; an item whose score is -inf is not there either."""
    scores = widen(scores)
    there = scores != -torch.inf
    if mask is not None:
        check_mask(owner, mask, scores)
        there = there & mask
    relevance = relevance.to(scores.dtype)
    return Lists(scores.masked_fill(~there, 0.0), relevance.masked_fill(~there, 0.0), there)


def check_mask(owner: str, mask: Tensor, scores: Tensor) -> None:
    check_tensor(owner, "mask", mask)
    check_shape(owner, "mask", mask, tuple(scores.shape))
    if mask.dtype != torch.bool:
        raise InvalidTypeError(f"{owner}: mask must be bool (True for a real item), got {mask.dtype}")


def gains_and_ideal(lists: Lists, exponential_gain: bool, k: int | None = None) -> tuple[Tensor, Tensor]:
    """Gains (lists, items), and the largest possible discounted sum of the first k (lists,), 0 without a relevant item.

    Losses divide by the latter last, as gains are whole numbers, with which differences keep their digits.
    """
    gain = torch.exp2(lists.relevance) - 1 if exponential_gain else lists.relevance
    return gain, (gain.sort(1, descending=True).values * discounts(gain.shape[1], k, gain)).sum(1)


def discounts(items: int, k: int | None, like: Tensor) -> Tensor:
    """1 / log2(1 + rank) (items,), and 0 beyond rank k."""
    found = 1 / torch.log2(torch.arange(2, items + 2, dtype=like.dtype, device=like.device))
    return found if k is None else torch.where(torch.arange(items, device=like.device) < k, found, 0.0)


def of_ideal(per_list: Tensor, ideal: Tensor) -> Tensor:
    return per_list / torch.where(ideal > 0, ideal, 1.0)


def by_score(lists: Lists) -> Tensor:
    """The order of the items (lists, items): highest score first, equal scores as they come, padding last."""
    order = lists.scores.detach().argsort(dim=1, descending=True, stable=True)
    return order.gather(1, lists.real.gather(1, order).to(torch.uint8).argsort(dim=1, descending=True, stable=True))


def pairs_in_order(lists: Lists) -> Tensor:
    """How many pairs of items of different relevance each list has (lists,), in the scores' dtype."""
    items = lists.real.shape[1]
    ascending, order = lists.relevance.masked_fill(~lists.real, torch.inf).sort(1)
    real = lists.real.gather(1, order)  # real items of infinite relevance are none
    place = torch.arange(items, device=order.device).expand_as(order)
    starts = torch.nn.functional.pad(ascending[:, 1:] > ascending[:, :-1], (1, 0), value=True)[:, :items]
    lower = torch.where(starts, place, 0).cummax(1).values if items else place  # how many are less relevant
    return torch.where(real, lower, 0).sum(1).to(lists.scores.dtype)


def log_softmax_of_real(values: Tensor, real: Tensor) -> Tensor:
    """The log-softmax over the real items of each list; finite for the others, and for lists that have none."""
    lowest = values.masked_fill(~real, torch.finfo(values.dtype).min)
    return torch.where(real, lowest - lowest.logsumexp(1, keepdim=True), 0.0)


def average_over_lists(per_list: Tensor, counts: Tensor, reduction: str) -> Tensor:
    """The mean of the lists that count; the others are 0."""
    return reduce(per_list.masked_fill(~counts, 0.0), counts.sum(), reduction)


def by_list(
    plain: Plain,
    kernel: Callable[[], Kernel],
    scores: Tensor,
    *constants: Tensor,
    closed: Kernel | None = None,
    work: int = 1,
) -> Tensor:
    """The loss of each list (lists,).

    Args:
        plain: the loss in plain operations; of scores (lists, items) and constants whose dimension 0 are the lists.
        kernel: gives the same in closed form for float32 on a processor, and is only asked for it when it is needed.
        scores, constants: what both are called with. Only the scores have a gradient here.
        closed: the closed form in tensor operations for what is not float32 on a processor; else autograd differentiates ``plain``.
        work: how often all pairs are gone through.
    """
    if _blocks.whole_only(scores, *constants) or any(_blocks.has_gradient(constant) for constant in constants):
        return plain(scores, *constants)
    if work * scores.shape[0] * scores.shape[1] ** 2 <= SMALL:
        return plain(scores, *constants)
    wanted = _blocks.has_gradient(scores) and torch.is_grad_enabled()
    of_block = closed or functools.partial(_by_autograd, plain)
    found: Tensor = _ByList.apply(plain, kernel, of_block, wanted, scores, *constants)[0]  # type: ignore[no-untyped-call]
    return found


class _ByList(torch.autograd.Function):
    """The loss of each list and its gradient, a few lists at a time."""

    @staticmethod
    def forward(
        plain: Plain, kernel: Callable[[], Kernel], of_block: Kernel, wanted: bool, scores: Tensor, *constants: Tensor
    ) -> tuple[Tensor, Tensor]:
        return value_and_gradient(kernel, of_block, wanted, scores, *constants)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.plain, ctx.kernel, ctx.of_block, _, *tensors = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1], *tensors)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        gradient, scores, *constants = ctx.saved_tensors
        nothing = [None] * len(constants)
        if torch.is_grad_enabled():  # somebody wants to differentiate the gradient
            pull = torch.func.vjp(lambda z: ctx.plain(z, *constants), scores)[1]
            return None, None, None, None, pull(upstream)[0], *nothing
        if not gradient.numel():
            gradient = value_and_gradient(ctx.kernel, ctx.of_block, True, scores, *constants)[1]
        return None, None, None, None, gradient * upstream.unsqueeze(1), *nothing

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        plain: Plain,
        kernel: Callable[[], Kernel],
        of_block: Kernel,
        wanted: bool,
        *tensors: Tensor,
    ) -> Any:
        mapped = [_blocks.mapped_first(x, dim, info.batch_size) for x, dim in zip(tensors, in_dims[4:], strict=True)]
        shape = (info.batch_size, mapped[0].shape[1])
        flat = (x.flatten(0, 1) for x in mapped)
        value, gradient = _ByList.apply(plain, kernel, of_block, wanted, *flat)  # type: ignore[no-untyped-call]
        if not gradient.numel():
            return (value.unflatten(0, shape), gradient), (0, None)
        return (value.unflatten(0, shape), gradient.unflatten(0, shape)), (0, 0)


def value_and_gradient(
    kernel: Callable[[], Kernel], of_block: Kernel, wanted: bool, scores: Tensor, *constants: Tensor
) -> tuple[Tensor, Tensor]:
    """The loss of each list and its gradient (nothing, unless it is wanted), a few lists at a time."""
    if scores.is_cpu and scores.dtype == torch.float32 and _blocks.loops_available():
        done: tuple[Tensor, Tensor] = _blocks.call_compiled(kernel(), scores, *constants, wanted)
        return done
    size = _blocks.ACCELERATOR_BLOCK if scores.device.type != "cpu" else BLOCK
    step = max(1, size // max(1, scores.shape[1] ** 2))
    blocks = zip(*(x.split(step) for x in (scores, *constants)), strict=True)
    found = [of_block(*block, wanted) for block in blocks]
    value, gradient = (torch.cat(parts).to(scores.dtype) for parts in zip(*found, strict=True))
    return value, gradient


def _by_autograd(plain: Plain, scores: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    *constants, wanted = rest
    with torch.set_grad_enabled(wanted):
        leaf = scores.detach().requires_grad_(wanted)
        value = plain(leaf, *constants)
        gradient = torch.autograd.grad(value.sum(), leaf)[0] if wanted else scores.new_empty(0)
    return value.detach(), gradient
