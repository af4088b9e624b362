"""The dispatch of a batch: one compiled loop, blocks that stay in a core's cache, or plain operations on the whole."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

BLOCK = 1 << 17  # elements of a block: half a MiB of float32, so that a few of them stay in a second-level cache
ACCELERATOR_BLOCK = 1 << 25  # where starting an operation costs more than a cache saves
SMALL = 1 << 16  # elements up to which plain operations on the whole take less time than a loop over blocks
LOOPS = True  # whether to compile loops at all

_PLAIN = frozenset({Tensor, torch.nn.Parameter})


def ordinary(*tensors: Tensor | None) -> bool:
    """Decides whether anything but plain operations on the whole may be done with these tensors.

    True only for plain tensors (``Tensor`` or ``Parameter``) with memory of their own, also inside of a functorch transform.
    False for subclasses (DTensor, MONAI's MetaTensor, fake tensors), which need not keep views, ``out=`` and slices that are
    written to; for meta tensors; and while ``torch.compile`` or ``torch.export`` traces. Ask this before any size or value:
    a traced comparison of a size is a guard, which binds the graph to one side of it.
    """
    if torch.compiler.is_compiling():
        return False
    for x in tensors:
        if x is None:
            continue
        if type(x) not in _PLAIN or x.is_meta:
            return False
        if torch._C._functorch.is_functorch_wrapped_tensor(x) and not ordinary(torch._C._functorch.get_unwrapped(x)):
            return False
    return True


def loops_available() -> bool:
    """Decides whether loops can be compiled here; without them every loss takes PyTorch's operations."""
    return LOOPS and _numba_compiles()


@functools.cache
def _numba_compiles() -> bool:
    """Numba imports, and is not switched off by ``NUMBA_DISABLE_JIT=1``, as debuggers and coverage do."""
    try:
        import numba
    except Exception:  # not only ImportError: Numba and llvmlite raise what they like if a version or a library does not fit
        return False
    return not getattr(numba.config, "DISABLE_JIT", False)


def whole_only(*tensors: Tensor | None) -> bool:
    """Decides whether plain operations on the whole are the only way, however large the batch is.

    So it is for tensors that are not ordinary, while PyTorch traces, and for derivatives in forward mode.
    """
    return not ordinary(*tensors) or _traced_or_forward()


def untransformed(*tensors: Tensor | None) -> bool:
    """Decides whether an operation of our own may be done with these tensors that functorch's transforms cannot follow."""
    return not whole_only(*tensors) and not torch._C._are_functorch_transforms_active()


def take_plain_operations(logits: Tensor, *others: Tensor | None) -> bool:
    """Whether an input is not ordinary or too small for blocks, or more than the logits is to have a gradient, which blocks give to
    them alone, or a gradient is wanted that is not found backwards."""
    if whole_only(logits, *others) or logits.numel() <= SMALL:
        return True
    return any(has_gradient(other) for other in others)


def _traced_or_forward() -> bool:
    """Whether PyTorch writes operations down, or takes derivatives along with them."""
    return torch._C._get_tracing_state() is not None or forward_ad._current_level >= 0


def has_gradient(x: Tensor | None) -> bool:
    """``requires_grad``, which a tensor that vmap has wrapped denies although autograd outside of vmap follows what is in it."""
    if x is None or torch.compiler.is_compiling():
        return x is not None and x.requires_grad
    while not x.requires_grad and torch._C._functorch.is_functorch_wrapped_tensor(x):
        x = torch._C._functorch.get_unwrapped(x)
    return x.requires_grad


def take_compiled_loops(logits: Tensor, *others: Tensor | None) -> bool:
    """Whether the input is plain memory that a loop can run over, of which only the logits are to have a gradient."""
    if torch.compiler.is_compiling() or type(logits) not in _PLAIN or logits.dtype is not torch.float32 or not logits.numel():
        return False
    if not logits.is_cpu or logits.is_neg() or torch._C._len_torch_dispatch_stack() or not loops_available():
        return False
    if torch._C._are_functorch_transforms_active() or _traced_or_forward():
        return False
    return all(x is None or (type(x) in _PLAIN and x.is_cpu and not x.requires_grad) for x in others)


def can_look(*tensors: Tensor | None) -> bool:
    """Decides whether the values of tensors may be read at no cost: they exist, on the processor."""
    return holds_values(*tensors) and all(x is None or x.device.type == "cpu" for x in tensors)


def holds_values(*tensors: Tensor | None) -> bool:
    """Decides whether tensors have values that can be read: nobody records, maps or compiles what is done."""
    if not ordinary(*tensors) or torch._C._len_torch_dispatch_stack():  # torch.compile cannot follow the second
        return False
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor
    return not any(x is not None and wrapped(x) for x in tensors)


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
