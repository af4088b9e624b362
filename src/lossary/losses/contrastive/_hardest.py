"""Losses of each row's positive and its most similar negatives."""

import math
from collections.abc import Callable
from typing import Annotated

import torch
from torch import Tensor

from lossary._core.parameters import Interval
from lossary._fast.pairs.rule import Pairs, over_rows, sum_over_rows
from lossary.distributed import Ring, all_items

HardFraction = Annotated[float, Interval(low=0.0, high=1.0, open_low=True)]


def hardest_negatives(
    a: Tensor, b: Tensor, of_row: Callable[[Tensor, Tensor], Tensor], fraction: float, ring: Ring, reduction: str
) -> Tensor:
    """The loss ``of_row(positive (B,), negatives (B, K))`` of unit rows a (N, D) with all items of the ring.

    K is the fraction of a row's negatives, and at least one; of those that tie for the last places some are taken.
    """
    gathered = all_items("hardest_negatives", b, ring.group)
    negatives = max(ring.total - 1, 0)
    kept = min(negatives, max(1, math.ceil(fraction * negatives)))

    def row(s: Tensor, pairs: Pairs) -> tuple[Tensor, ...]:
        own = pairs.own if pairs.own is not None else pairs.anchors
        others = s.scatter(1, own[:, None], -torch.inf)
        return (of_row(s.gather(1, own[:, None]).squeeze(1), others.topk(kept, dim=1, sorted=False).values),)

    own = torch.arange(len(a), device=a.device) + gathered.start
    if reduction == "none":
        return over_rows(row, a, gathered.items, own=own)[0]
    return ring.reduced(sum_over_rows(row, a, gathered.items, own=own)[0], reduction)
