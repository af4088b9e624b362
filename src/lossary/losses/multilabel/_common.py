"""Logarithms of the sigmoid, to full precision on both sides.

Where somebody differentiates they are PyTorch's own functions, which know their derivatives at 0. Where nobody does, as in blocks
whose slopes are in closed form, they are written out, which takes half of the time.
"""

import torch
from torch import Tensor
from torch.nn import functional


def _tail(size: Tensor) -> Tensor:
    """log(1 + exp(-|z|)), which is what is left of softplus beside a straight line."""
    return (-size).exp_().log1p_()


def softplus(z: Tensor) -> Tensor:
    """log(1 + e^z), which is -log(1 - p)."""
    if torch.is_grad_enabled():
        return functional.softplus(z, threshold=40)  # beyond, it is z to the last bit
    size = z.abs()
    tail = _tail(size)
    return size.add_(z).div_(2).add_(tail)


def log_sigmoids(z: Tensor) -> tuple[Tensor, Tensor]:
    """log p and log(1 - p)."""
    if torch.is_grad_enabled():
        return functional.logsigmoid(z), functional.logsigmoid(-z)
    size = z.abs()
    tail = _tail(size)
    return (z - size).div_(2).sub_(tail), (z + size).div_(-2).sub_(tail)
