"""The sigmoid on both of its sides, to full precision, and labels as one long array."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def softplus(z: Tensor) -> Tensor:
    """log(1 + e^z), which is -log(1 - p)."""
    return functional.softplus(z, threshold=40)  # beyond, it is z to the last bit


def power_of_sigmoid(z: Tensor, exponent: float) -> Tensor:
    """p ** exponent; whole exponents are products, which are faster, and others have no infinite slope where p is 0."""
    if float(exponent).is_integer():
        return z.sigmoid().pow(exponent)
    return torch.exp(exponent * functional.logsigmoid(z))


def flat(x: Tensor) -> Any:
    """A tensor as a NumPy array (n,), a view where its memory is in order."""
    x = x.detach()
    return (x.float() if x.dtype in (torch.float16, torch.bfloat16) else x).contiguous().view(-1).numpy()
