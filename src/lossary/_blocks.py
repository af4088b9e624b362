"""How a large batch is cut into blocks that stay in a core's cache."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

BLOCK = 1 << 17  # elements of a block: half a MiB of float32, so that a few of them stay in a second-level cache
ACCELERATOR_BLOCK = 1 << 25  # where starting an operation costs more than a cache saves
SMALL = 1 << 16  # elements up to which plain operations on the whole take less time than a loop over blocks
ARRAYS = 1 << 15  # elements up to which it costs less to make value and gradient with NumPy than to let autograd follow
COMPILED = 1 << 18  # elements from which a compiled loop is worth the second or two that compiling takes


def take_plain_operations(logits: Tensor, *others: Tensor | None) -> bool:
    """Whether an input is too small for blocks, or more than the logits is to have a gradient, which blocks give to them alone."""
    return logits.numel() <= SMALL or torch.compiler.is_compiling() or any(has_gradient(other) for other in others)


def has_gradient(x: Tensor | None) -> bool:
    """``requires_grad``, which a tensor that vmap has wrapped denies although autograd outside of vmap follows what is in it."""
    if x is None or torch.compiler.is_compiling():
        return x is not None and x.requires_grad
    while not x.requires_grad and torch._C._functorch.is_functorch_wrapped_tensor(x):
        x = torch._C._functorch.get_unwrapped(x)
    return x.requires_grad


def take_compiled_loops(logits: Tensor, *others: Tensor | None) -> bool:
    """Whether a large input is plain memory that a loop can run over, and nobody is looking at the operations on it."""
    if logits.dtype != torch.float32 or logits.numel() < COMPILED or not logits.is_contiguous():
        return False
    return can_look(logits, *others) and type(logits) in (Tensor, torch.nn.Parameter)


def take_arrays(logits: Tensor, *others: Tensor | None) -> bool:
    """Whether a small batch is plain memory that NumPy can work on, of which only the logits are to have a gradient."""
    if logits.dtype != torch.float32 or logits.numel() > ARRAYS or type(logits) not in (Tensor, torch.nn.Parameter):
        return False
    return can_look(logits, *others) and not any(x is not None and x.requires_grad for x in others)


def can_look(*tensors: Tensor | None) -> bool:
    """Whether the values of tensors may be read: they are here, and nobody is recording, mapping or compiling what is done."""
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack():
        return False
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor
    return all(x is None or (x.device.type == "cpu" and not wrapped(x)) for x in tensors)


# Told of compiled loops, and to call them: whoever records tensor operations, among which they are not to be seen.
watchers: list[Callable[[Callable[..., Any], tuple[Any, ...]], Any]] = []


def call_compiled(loop: Callable[..., Any], *arguments: Any) -> Any:
    """``loop(*arguments)``, a function of tensors that makes new ones and does its work in a compiled loop."""
    return watchers[-1](loop, arguments) if watchers else loop(*arguments)


def of_classes(z: Tensor) -> Iterator[tuple[slice, slice]]:
    """Slices of dimensions 0 and 2 of (N, C, S) that hold about a block each."""
    n, classes, space = z.shape
    size = _size(z)
    if classes * space <= size:
        step = size // (classes * space)
        for start in range(0, n, step):
            yield slice(start, start + step), slice(None)
    else:
        step = max(1, size // classes)
        for row in range(n):
            for start in range(0, space, step):
                yield slice(row, row + 1), slice(start, start + step)


def scratch(z: Tensor, dtype: torch.dtype) -> Tensor:
    """Room for one block of (N, C, S), so that each finds it in the cache."""
    return z.new_empty(min(z.numel(), max(BLOCK if z.device.type == "cpu" else ACCELERATOR_BLOCK, z.shape[1])), dtype=dtype)


def of_rows(z: Tensor) -> Iterator[slice]:
    """Slices of dimension 0 of (N, *) that hold about a block each."""
    step = max(1, _size(z) // max(1, z[:1].numel()))
    for start in range(0, z.shape[0], step):
        yield slice(start, start + step)


def _size(z: Tensor) -> int:
    if z.device.type != "cpu":
        return ACCELERATOR_BLOCK
    # Having freed 16 MiB, the usual C library keeps what is smaller for reuse; else it would return each block's temporaries to
    # the system and have their pages cleared again, which takes longer than the arithmetic.
    torch.empty(1 << 24, dtype=torch.uint8)
    return BLOCK


def mapped_first(x: Tensor, dim: int | None, size: int) -> Tensor:
    """What vmap hands over, with the mapped dimension first, whether or not there is one."""
    return x.unsqueeze(0).expand(size, *x.shape) if dim is None else x.movedim(dim, 0)


class Early:
    """A gradient of rows (N, *) that was made in the forward pass, for the upstream that will probably come; it is taken once."""

    def __init__(self, gradient: Tensor | None, scale: float):
        self.gradient, self.scale = gradient, scale

    def take(self, upstream: Tensor) -> Tensor | None:
        """The gradient for what came upstream (N,) or (N, *), or None if there is none any more."""
        gradient, self.gradient = self.gradient, None
        if gradient is not None:
            ratio = upstream / self.scale
            if not bool(((ratio - 1).abs() < 1e-6).all()):
                gradient.mul_(ratio.reshape(*ratio.shape, *[1] * (gradient.ndim - ratio.ndim)))
        return gradient
