"""One wording for every refusal of a tensor: objective, argument, what is allowed, what was given.

Only shapes and dtypes are looked at. Looking at values would make an accelerator wait for every batch.
"""

import torch
from torch import Tensor

from lossary.errors import InvalidTypeError, InvalidValueError


def shape_text(shape: tuple[int, ...]) -> str:
    return f"({', '.join(str(n) for n in shape)}{',' if len(shape) == 1 else ''})"


def check_tensor(owner: str, argument: str, value: object) -> None:
    if not isinstance(value, Tensor):
        raise InvalidTypeError(f"{owner}: {argument} must be a tensor, got {type(value).__name__}")


def check_floating(owner: str, argument: str, value: Tensor) -> None:
    check_tensor(owner, argument, value)
    if not value.is_floating_point():
        raise InvalidTypeError(f"{owner}: {argument} must be floating point, got {value.dtype}")


def check_integers(owner: str, argument: str, value: Tensor) -> None:
    """Indices and identifiers."""
    check_tensor(owner, argument, value)
    if value.is_floating_point() or value.is_complex() or value.dtype == torch.bool:
        raise InvalidTypeError(f"{owner}: {argument} must be integers (int64), got {value.dtype}")


def check_undivided(owner: str, value: Tensor) -> None:
    """A loss that compares samples meets those of other processes over its group, and not in a DTensor's shards."""
    if hasattr(value, "full_tensor"):
        raise InvalidTypeError(
            f"{owner}: inputs must be tensors of this process, got a DTensor; its full_tensor() is all of it, its to_local() a part"
        )


def check_shape(owner: str, argument: str, value: Tensor, *allowed: tuple[int, ...]) -> None:
    if tuple(value.shape) not in allowed:
        shapes = " or ".join(shape_text(shape) for shape in allowed)
        raise InvalidValueError(f"{owner}: {argument} must have shape {shapes}, got {shape_text(tuple(value.shape))}")


def check_shape_of_classes(owner: str, output: Tensor, target: Tensor, *allowed: tuple[int, ...], name: str = "logits") -> None:
    """Refuse another shape of the target for an output (N, C, *), with what to do about the conventions of other tools."""
    given, shape = tuple(target.shape), tuple(output.shape)
    if given in allowed:
        return
    remedy = ""
    if given == shape[:-1]:
        remedy = f": classes go to dimension 1, {name}.{'transpose(1, 2)' if len(shape) == 3 else 'movedim(-1, 1)'}"
    elif given == (shape[0], 1, *shape[2:]):
        remedy = ": class indices have no dimension of channels, target.squeeze(1)"
    shapes = " or ".join(shape_text(each) for each in allowed)
    raise InvalidValueError(f"{owner}: target must have shape {shapes}, got {shape_text(given)}{remedy}")


def check_class_inputs(owner: str, logits: Tensor, target: Tensor, weight: Tensor | None, min_classes: int = 1) -> None:
    """logits (N, C, *); target (N, *) class indices or (N, C, *) probabilities; weight (C,)."""
    check_floating(owner, "logits", logits)
    check_tensor(owner, "target", target)
    if logits.ndim < 2:
        raise InvalidValueError(f"{owner}: logits must have shape (N, C, *), got {shape_text(tuple(logits.shape))}")
    if logits.shape[1] < min_classes:
        raise InvalidValueError(f"{owner}: logits must have at least {min_classes} classes in dimension 1, got {logits.shape[1]}")
    probabilities = tuple(logits.shape)
    indices = probabilities[:1] + probabilities[2:]
    given = tuple(target.shape)
    if given not in (indices, probabilities):
        check_shape_of_classes(owner, logits, target, indices, probabilities)
    if given == probabilities:
        if not target.is_floating_point():
            raise InvalidTypeError(
                f"{owner}: target of shape {shape_text(probabilities)} must be probabilities (floating point), got {target.dtype}"
            )
    elif target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
        raise InvalidTypeError(f"{owner}: target of shape {shape_text(indices)} must be class indices (int64), got {target.dtype}")
    if weight is not None:
        check_floating(owner, "weight", weight)
        check_shape(owner, "weight", weight, (logits.shape[1],))


def check_element_inputs(owner: str, output: Tensor, target: Tensor, argument: str = "logits") -> None:
    """Both of one shape; the target may be floating point, integer or bool."""
    check_floating(owner, argument, output)
    check_tensor(owner, "target", target)
    if target.shape != output.shape:
        check_shape(owner, "target", target, tuple(output.shape))
    if target.is_complex():
        raise InvalidTypeError(f"{owner}: target must be real, got {target.dtype}")


def check_broadcast(owner: str, argument: str, value: Tensor | None, like: Tensor) -> None:
    """value must spread over like without enlarging it."""
    if value is None:
        return
    check_floating(owner, argument, value)
    fits = value.ndim <= like.ndim and all(n in (1, m) for n, m in zip(reversed(value.shape), reversed(like.shape), strict=False))
    if not fits:
        raise InvalidValueError(
            f"{owner}: {argument} must broadcast to {shape_text(tuple(like.shape))}, got {shape_text(tuple(value.shape))}"
        )


def check_pair(owner: str, a: Tensor, b: Tensor, first: str = "a", second: str = "b") -> None:
    """Two floating-point tensors of one shape (N, D); ``first`` and ``second`` are what the objective calls them."""
    check_vectors(owner, a, first)
    check_floating(owner, second, b)
    check_shape(owner, second, b, tuple(a.shape))


def check_vectors(owner: str, x: Tensor, name: str) -> None:
    """A floating-point tensor (N, D)."""
    check_floating(owner, name, x)
    if x.ndim != 2:
        raise InvalidValueError(f"{owner}: {name} must have shape (N, D), got {shape_text(tuple(x.shape))}")
