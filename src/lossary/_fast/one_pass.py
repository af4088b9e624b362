"""A loss whose gradient is made in the forward pass, by a compiled loop that has the numbers at hand.

Autograd sees one operation. In a large batch that saves a pass over memory; in a small one, where arithmetic is for nothing, what
is saved is the operations that Python starts and autograd follows.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lossary._fast.dispatch import SMALL

Compute = Callable[..., tuple[Tensor | None, ...]]


class _OnePass(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, compute: Compute, plain: Callable[..., Tensor], z: Tensor, *rest: Tensor | None) -> Any:
        # one without a gradient is another loop to compile, which only large batches are worth
        value, ctx.gradient, *more = compute(ctx.needs_input_grad[2] or z.numel() <= SMALL, z, *rest)
        ctx.compute, ctx.plain = compute, plain
        ctx.save_for_backward(z, *rest)
        if not more:
            return value
        ctx.mark_non_differentiable(*more)
        return value, *more

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        nothing = (None,) * (len(ctx.needs_input_grad) - 3)
        gradient, ctx.gradient = ctx.gradient, None  # it goes to whoever asks first, who may write into it
        if torch.is_grad_enabled():  # somebody wants to differentiate the gradient
            z, *rest = ctx.saved_tensors
            pulled: Tensor = torch.func.vjp(lambda z: ctx.plain(z, *rest), z)[1](upstream)[0]
            return None, None, pulled, *nothing
        if gradient is None:
            gradient = ctx.compute(True, *ctx.saved_tensors)[1]
        return None, None, _times(gradient, upstream), *nothing


def _times(gradient: Tensor, upstream: Tensor) -> Tensor:
    """The gradient times what came upstream, which is one in nearly all cases, in its place."""
    if upstream.ndim == 0:
        factor = upstream.item()
        return gradient if factor == 1.0 else gradient.mul_(factor)
    return gradient.mul_(upstream.reshape(*upstream.shape, *[1] * (gradient.ndim - upstream.ndim)))


def in_one_pass(compute: Compute, plain: Callable[..., Tensor], z: Tensor, *rest: Tensor | None) -> Any:
    """``compute(wanted, z, *rest)[0]``: a number, or numbers of each row of z (N, *), with a gradient to z alone.

    The functions hold no tensors themselves: what backward needs is saved by autograd, which frees it afterwards and notices
    what is changed in place.

    Args:
        compute: returns these numbers and, if wanted, the gradient of their sum, of the shape of z (else None). Tensors that
            follow have no gradient, and are returned after the numbers.
        plain: ``plain(z, *rest)`` returns the same numbers in PyTorch's operations, for second derivatives.
        z: (N, *) what the gradient is for.
        rest: tensors that both functions need as well.
    """
    return _apply(compute, plain, z, *rest)


def with_gradient(plain: Callable[..., Tensor], z: Tensor, *rest: Tensor | None) -> tuple[Tensor, Tensor]:
    """``plain(z, *rest)`` and the gradient of its sum, where a loop cannot do what is asked for."""
    with torch.enable_grad():
        leaf = z.detach().requires_grad_()
        value = plain(leaf, *rest)
        (gradient,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), gradient


# What the class's own apply comes down to if nobody maps or transforms, which is known here; it takes three microseconds to see it.
_apply: Any = super(torch.autograd.Function, _OnePass).apply
