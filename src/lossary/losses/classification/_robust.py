"""What losses that are robust over labels share: logits of a bounded size."""

from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from lossary._domains import OneOf

Normalization = Annotated[Literal["l1", "softplus"], OneOf(("l1", "softplus"))]
SMALLEST = 1e-3  # mean size of logits below which "l1" does not blow them up any further


def normalized(logits: Tensor, how: str | None) -> Tensor:
    """``l1`` divides logits (N, C) by their mean size; ``softplus`` makes them positive with a mean of one."""
    if how is None:
        return logits
    if how == "l1":
        return logits / logits.abs().mean(1, keepdim=True).clamp_min(SMALLEST)
    # the softmax of a logarithm divides by the sum also where every softplus is too small for a number
    small = logits < -15
    log_softplus = torch.where(small, logits, softplus(logits.masked_fill(small, 0.0)).log())
    return log_softplus.softmax(1) * logits.shape[1]
