"""A loss whose gradient is made in the forward pass, by a compiled loop that has the numbers at hand.

Autograd sees one operation. In a large batch that saves a pass over memory; in a small one, where arithmetic is for nothing, what
is saved is the operations that Python starts and autograd follows.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lossary._blocks import SMALL

Compute = Callable[[Tensor, bool], tuple[Tensor, Tensor | None]]


class _OnePass(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, compute: Compute, plain: Callable[[Tensor], Tensor]) -> Tensor:
        # one without a gradient is another loop to compile, which only large batches are worth
        value, ctx.gradient = compute(z, ctx.needs_input_grad[0] or z.numel() <= SMALL)
        ctx.compute, ctx.plain = compute, plain
        ctx.save_for_backward(z)
        return value

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        if torch.is_grad_enabled():  # somebody wants to differentiate the gradient
            pulled: Tensor = torch.func.vjp(ctx.plain, *ctx.saved_tensors)[1](upstream)[0]
            return pulled, None, None
        gradient, ctx.gradient = ctx.gradient, None  # it goes to whoever asks first, who may write into it
        if gradient is None:
            gradient = ctx.compute(*ctx.saved_tensors, True)[1]
        return _times(gradient, upstream), None, None


def _times(gradient: Tensor, upstream: Tensor) -> Tensor:
    """The gradient times what came upstream, which is one in nearly all cases, in its place."""
    if upstream.ndim == 0:
        factor = upstream.item()
        return gradient if factor == 1.0 else gradient.mul_(factor)
    return gradient.mul_(upstream.reshape(*upstream.shape, *[1] * (gradient.ndim - upstream.ndim)))


def in_one_pass(z: Tensor, compute: Compute, plain: Callable[[Tensor], Tensor]) -> Tensor:
    """``compute(z, wanted)[0]``: a number, or numbers of each row of z (N, *).

    Args:
        compute: gives these and, if wanted, the gradient of their sum, of the shape of z.
        plain: the same numbers in PyTorch's operations, for second derivatives.
    """
    found: Tensor = _apply(z, compute, plain)
    return found


# What the class's own apply comes down to if nobody maps or transforms, which is known here; it takes three microseconds to see it.
_apply: Any = super(torch.autograd.Function, _OnePass).apply
