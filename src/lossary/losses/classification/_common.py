"""What several multi-class losses share."""

import torch
from torch import Tensor


def power(base: Tensor, exponent: float) -> Tensor:
    """base ** exponent for a base in [0, 1]; a fractional exponent has an infinite slope at 0, which this leaves out."""
    return base.clamp_min(torch.finfo(base.dtype).tiny).pow(exponent)
