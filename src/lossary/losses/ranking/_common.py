"""What losses of lists share: their inputs, their gains, and their means."""

import functools
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lossary._core.checks import check_floating, check_shape, check_tensor, shape_text
from lossary._core.objective import Objective, reduce, widen
from lossary._fast import dispatch
from lossary._fast.one_pass import in_one_pass
from lossary.errors import InvalidTypeError, InvalidValueError

# (reduction, scores, relevance, mask) -> the reduced loss of lists
Whole = Callable[[str, Tensor, Tensor, Tensor | None], Tensor]


class RankingObjective(Objective):
    """Lists of items: ``loss(scores, relevance, mask)``. Only the order of the scores means something."""

    consumes: ClassVar[str] = "logits"

    def forward(self, scores: Tensor, relevance: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute the loss of scores (lists, items) for relevances of that shape; a mask is True where there is an item."""
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


def of_whole_lists(owner: str, plain: Whole, scores: Tensor, relevance: Tensor, mask: Tensor | None, reduction: str) -> Tensor:
    """Return the reduced loss of lists in which no two items make a pair: by the loop of the owner's name, or in plain operations.

    Args:
        plain: the reduced loss of scores, relevance and mask (lists, items), and the reduction.
    """
    check_both(owner, scores, relevance, "relevance")
    if mask is not None:
        check_mask(owner, mask, scores)
    if dispatch.take_compiled_loops(scores, relevance, mask):
        compute = functools.partial(_in_a_loop, owner, reduction)
        found: Tensor = in_one_pass(compute, functools.partial(plain, reduction), scores, relevance, mask)
        return found
    return plain(reduction, scores, relevance, mask)


def _in_a_loop(
    owner: str, reduction: str, wanted: bool, scores: Tensor, relevance: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    from lossary._fast.lists import loops
    from lossary._fast.mathematics import on_threads  # which imports Numba

    run = getattr(loops, owner)
    gradient = scores.new_empty(scores.shape) if wanted else None
    given = [None if x is None else np.ascontiguousarray(x.detach().numpy()) for x in (scores, relevance.float(), mask)]
    scale = 1 / max(loops.count_relevant(*given), 1) if reduction == "mean" else 1.0
    value = np.empty(len(scores), np.float32)
    taken = [*given, value, None if gradient is None else gradient.numpy()]
    parts = on_threads(lambda rows: run(*(None if x is None else x[rows] for x in taken), scale), *scores.shape)
    if reduction == "none":
        return torch.from_numpy(value), gradient
    return torch.from_numpy(np.array(sum(parts) * scale, np.float32)), gradient


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
