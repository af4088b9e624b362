"""Lists of scored items as metrics see them: best first, with items of equal scores as one group."""

from typing import NamedTuple

import torch
from torch import Tensor

from lossary._core.checks import check_floating, check_shape, check_tensor, shape_text
from lossary._core.objective import double, reduce
from lossary.errors import InvalidTypeError, InvalidValueError


class Ranked(NamedTuple):
    """Each list in the order of its scores, padding last; (lists, items) but for the last field."""

    relevance: Tensor  # float64 (float32 on Apple's GPUs), 0 for padding
    real: Tensor  # bool
    group: Tensor  # int64: which of the list's groups of equal scores, from 0
    undefined: Tensor  # (lists,) bool: the score or the relevance of a real item is NaN


def ranked(owner: str, scores: Tensor, relevance: Tensor, mask: Tensor | None) -> Ranked:
    """Scores, relevance and mask (lists, items), checked and sorted. Without a mask, items of negative relevance are padding."""
    check_floating(owner, "scores", scores)
    check_tensor(owner, "relevance", relevance)
    if scores.ndim != 2:
        raise InvalidValueError(f"{owner}: scores must have shape (lists, items), got {shape_text(tuple(scores.shape))}")
    check_shape(owner, "relevance", relevance, tuple(scores.shape))
    if relevance.is_complex():
        raise InvalidTypeError(f"{owner}: relevance must be real, got {relevance.dtype}")
    grades = double(relevance)
    if mask is None:
        mask = ~(grades < 0)
    else:
        check_tensor(owner, "mask", mask)
        check_shape(owner, "mask", mask, tuple(scores.shape))
        if mask.dtype != torch.bool:
            raise InvalidTypeError(f"{owner}: mask must be bool (True for a real item), got {mask.dtype}")
    undefined = ((scores.isnan() | grades.isnan()) & mask).any(1)
    order = scores.argsort(1, descending=True)
    order = order.gather(1, mask.gather(1, order).argsort(dim=1, descending=True, stable=True))
    sorted_scores, real = scores.gather(1, order), mask.gather(1, order)
    starts = (sorted_scores[:, 1:] != sorted_scores[:, :-1]) | (real[:, 1:] != real[:, :-1])
    group = torch.nn.functional.pad(starts.long().cumsum(1), (1, 0))[:, : scores.shape[1]]
    return Ranked(grades.gather(1, order).masked_fill(~real, 0.0), real, group, undefined)


def finish(per_list: Tensor, counts: Tensor, items: Ranked, dtype: torch.dtype, reduction: str) -> Tensor:
    """The lists that count, reduced; a list with NaN is NaN, whether it counts or not."""
    per_list = torch.where(items.undefined, torch.nan, per_list.masked_fill(~counts, 0.0))
    return reduce(per_list, counts.sum(), reduction).to(torch.promote_types(dtype, torch.float32))
