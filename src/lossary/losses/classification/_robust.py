"""What losses that are robust over labels share: logits of a bounded size."""

from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from lossary._core.parameters import OneOf

Normalization = Annotated[Literal["l1", "softplus"], OneOf(("l1", "softplus"))]
SMALLEST = 1e-3  # mean size of logits below which "l1" does not blow them up any further


def normalized(logits: Tensor, how: str | None) -> Tensor:
    """``l1`` divides logits (N, C) by their mean size; ``softplus`` makes them positive with a mean of one.

    A class that is masked by -inf stays masked, and has no part in the mean.
    """
    if how is None:
        return logits
    masked = logits == -torch.inf
    count = (~masked).sum(1, keepdim=True)
    if how == "l1":
        z = logits.masked_fill(masked, 0.0)
        return (z / (z.abs().sum(1, keepdim=True) / count.clamp_min(1)).clamp_min(SMALLEST)).masked_fill(masked, -torch.inf)
    # the softmax of a logarithm divides by the sum also where every softplus is too small for a number
    small = logits < -15
    log_softplus = torch.where(small, logits, softplus(logits.masked_fill(small, 0.0)).log())
    return (log_softplus.softmax(1) * count).masked_fill(masked, -torch.inf)
