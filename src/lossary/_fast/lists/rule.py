"""A loss of each list and its gradient, a few lists at a time: ranked lists, and rows of labels.

The n items of a list make n x n pairs in many losses, which for a batch of lists is more than anything else in training. No list
knows of another, so only a few lists at a time have to be in memory, with their pairs and their gradient, which is no longer than
the list. Where there is a loop for a list in closed form, Numba compiles it; else autograd differentiates plain operations on a
block of lists. Small batches, and whatever PyTorch traces, take the plain operations on the whole, which is also what second
derivatives are made of.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lossary._fast import dispatch
from lossary._fast.one_pass import in_one_pass

# (scores, constants...) -> the loss of each list. Every tensor has the lists in dimension 0.
Plain = Callable[..., Tensor]
# (scores, constants..., whether the gradient is wanted) -> the loss of each list, and its gradient or nothing
Kernel = Callable[..., tuple[Tensor, Tensor]]
SMALL = 1 << 15  # numbers up to which plain operations on the whole take less time than anything else
BLOCK = 1 << 16  # numbers of a block, of which autograd keeps several


def by_list(
    plain: Plain,
    kernel: Callable[[], Kernel],
    scores: Tensor,
    *constants: Tensor,
    closed: Kernel | None = None,
    degree: int = 2,
    work: int = 1,
) -> Tensor:
    """Return the loss of each list (lists,).

    Args:
        plain: the loss in plain operations; of scores (lists, items) and constants whose dimension 0 are the lists.
        kernel: gives the same in closed form for float32 on a processor, and is only asked for it when it is needed.
        scores, constants: what both are called with. Only the scores have a gradient here.
        closed: the closed form in tensor operations for what is not float32 on a processor; else autograd differentiates ``plain``.
        degree: a list of n items makes n ** degree numbers at a time.
        work: how often all of them are gone through.
    """
    if dispatch.whole_only(scores, *constants) or any(dispatch.has_gradient(constant) for constant in constants):
        return plain(scores, *constants)
    if work * scores.shape[0] * scores.shape[1] ** degree <= SMALL:
        return plain(scores, *constants)
    if dispatch.take_compiled_loops(scores, *constants):
        alone: Tensor = in_one_pass(functools.partial(_alone, kernel), plain, scores, *constants)
        return alone
    wanted = dispatch.has_gradient(scores) and torch.is_grad_enabled()
    otherwise = in_blocks(closed or functools.partial(_by_autograd, plain), degree)
    found: Tensor = _ByList.apply(plain, kernel, otherwise, wanted, scores, *constants)[0]  # type: ignore[no-untyped-call]
    return found


def _alone(kernel: Callable[[], Kernel], wanted: bool, *tensors: Tensor) -> tuple[Tensor, Tensor | None]:
    value, gradient = _in_order(kernel(), *tensors, wanted)
    return value, gradient if wanted else None


class _ByList(torch.autograd.Function):
    """The loss of each list and its gradient, a few lists at a time."""

    @staticmethod
    def forward(
        plain: Plain, kernel: Callable[[], Kernel], otherwise: Kernel, wanted: bool, scores: Tensor, *constants: Tensor
    ) -> tuple[Tensor, Tensor]:
        return value_and_gradient(kernel, otherwise, wanted, scores, *constants)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.plain, ctx.kernel, ctx.otherwise, _, *tensors = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1], *tensors)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        gradient, scores, *constants = ctx.saved_tensors
        nothing = [None] * len(constants)
        if torch.is_grad_enabled():  # somebody wants to differentiate the gradient
            pull = torch.func.vjp(lambda z: ctx.plain(z, *constants), scores)[1]
            return None, None, None, None, pull(upstream)[0], *nothing
        if not gradient.numel():
            gradient = value_and_gradient(ctx.kernel, ctx.otherwise, True, scores, *constants)[1]
        return None, None, None, None, gradient * upstream.unsqueeze(1), *nothing

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        plain: Plain,
        kernel: Callable[[], Kernel],
        otherwise: Kernel,
        wanted: bool,
        *tensors: Tensor,
    ) -> Any:
        mapped = [dispatch.mapped_first(x, dim, info.batch_size) for x, dim in zip(tensors, in_dims[4:], strict=True)]
        shape = (info.batch_size, mapped[0].shape[1])
        flat = (x.flatten(0, 1) for x in mapped)
        value, gradient = _ByList.apply(plain, kernel, otherwise, wanted, *flat)  # type: ignore[no-untyped-call]
        if not gradient.numel():
            return (value.unflatten(0, shape), gradient), (0, None)
        return (value.unflatten(0, shape), gradient.unflatten(0, shape)), (0, 0)


def value_and_gradient(
    kernel: Callable[[], Kernel], otherwise: Kernel, wanted: bool, scores: Tensor, *constants: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the loss of each list and its gradient (nothing, unless it is wanted): by the loop, or otherwise."""
    if scores.is_cpu and scores.dtype == torch.float32 and dispatch.loops_available():
        done: tuple[Tensor, Tensor] = dispatch.call_compiled(functools.partial(_in_order, kernel()), scores, *constants, wanted)
        return done
    return otherwise(scores, *constants, wanted)


def _in_order(kernel: Kernel, *given: Any) -> tuple[Tensor, Tensor]:
    """Call a loop with contiguous tensors; another layout would be another loop to compile."""
    return kernel(*(x.contiguous() if isinstance(x, Tensor) else x for x in given))


def in_blocks(of_block: Kernel, degree: int = 2) -> Kernel:
    """Return a function that calls another one for a few lists at a time, each of which makes n ** degree numbers."""
    return functools.partial(_in_blocks, of_block, degree)


def _in_blocks(of_block: Kernel, degree: int, *given: Any) -> tuple[Tensor, Tensor]:
    *tensors, wanted = given
    scores = tensors[0]
    size = BLOCK if scores.device.type == "cpu" else dispatch.ACCELERATOR_BLOCK
    step = max(1, size // max(1, scores.shape[1] ** degree))
    value, gradient = scores.new_empty(len(scores)), scores.new_empty(scores.shape if wanted else 0)
    for start in range(0, len(scores), step):
        lists = slice(start, start + step)
        value[lists], of_scores = of_block(*(x[lists] for x in tensors), wanted)
        if wanted:
            gradient[lists] = of_scores
    return value, gradient


def _by_autograd(plain: Plain, scores: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    *constants, wanted = rest
    with torch.set_grad_enabled(wanted):
        leaf = scores.detach().requires_grad_(wanted)
        value = plain(leaf, *constants)
        gradient = torch.autograd.grad(value.sum(), leaf)[0] if wanted else scores.new_empty(0)
    return value.detach(), gradient
