"""Chances in double precision, for expectations over random orders of ties."""

import torch
from torch import Tensor


def exact(x: Tensor) -> Tensor:
    """Counts in double precision, on the processor where the device has none: single precision loses log-gamma's digits."""
    return (x.cpu() if x.device.type == "mps" else x).double()


def log_choices(n: Tensor, k: Tensor) -> Tensor:
    """The logarithm of n over k, elementwise."""
    return torch.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
