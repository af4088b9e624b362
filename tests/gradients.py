"""A gradient that is asked for several times, in several ways."""

from collections.abc import Callable

import torch
from torch import Tensor


def again_and_twice(loss: Callable[[], Tensor], leaf: Tensor) -> Tensor:
    """The gradients by a leaf of a loss and of three times the same loss added up, and a gradient of a gradient."""
    leaf.grad = torch.zeros_like(leaf)
    value = loss()
    value.backward(retain_graph=True)
    (value * 3).backward(retain_graph=True)
    (once,) = torch.autograd.grad(value.exp(), leaf, create_graph=True)
    (twice,) = torch.autograd.grad(once.square().sum(), leaf)
    return torch.stack([leaf.grad, twice])
