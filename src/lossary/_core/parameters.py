"""What a hyper-parameter may be, written once, in its annotation: ``gamma: NonNegative = 2.0``.

The annotation is read by :func:`formula` (which refuses anything else, in one sentence), by ``lossary show`` and by the
conformance suite (which tries values outside of it). For a type checker it is the plain type.
"""

import functools
import inspect
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType, UnionType
from typing import Annotated, Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin

import numpy as np
import torch
from torch import Tensor

from lossary._core import values
from lossary.errors import InvalidTypeError, InvalidValueError

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Interval:
    """The finite numbers between two bounds, or only the integers; a bound belongs to the interval unless it is open."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    whole: bool = False

    def allows(self, value: object) -> bool:
        if type(value) is not int and (self.whole or type(value) is not float):
            return False
        above = value > self.low if self.open_low else value >= self.low
        return above and value <= self.high and abs(value) < math.inf

    def plain(self, value: object) -> object:
        """The Python number that a NumPy number, or an array or a tensor without dimensions, stands for."""
        return _python_number(value)

    def accepts_type(self, value: object) -> bool:
        return type(value) is int or (type(value) is float and not self.whole)

    def outside(self) -> list[object]:
        """Values that must be refused, for tests."""
        values: list[object] = [math.nan, math.inf, "much", *([1.5] if self.whole else [])]
        if math.isfinite(self.low):
            values.append(self.low if self.open_low else self.low - 1)
        if math.isfinite(self.high):
            values.append(self.high + 1)
        return values

    def __str__(self) -> str:
        if self.whole:
            low, high = (f"{bound:g}" if math.isfinite(bound) else "" for bound in (self.low, self.high))
            return f"an integer from {low} to {high}" if low and high else f"an integer{f' >= {low}' if low else ''}"
        if math.isfinite(self.low) and math.isfinite(self.high):
            return (
                f"a number {'above' if self.open_low else 'from'} {self.low:g} {'and up ' if self.open_low else ''}to {self.high:g}"
            )
        if math.isfinite(self.low):
            return f"a finite number {'>' if self.open_low else '>='} {self.low:g}"
        return "a finite number"


def _python_number(value: object) -> object:
    if isinstance(value, (np.generic, np.ndarray, Tensor)):
        if value.ndim or (isinstance(value, Tensor) and value.requires_grad):  # a number would carry no gradient
            return value
        try:
            return value.item()
        except RuntimeError:  # a tensor without data, or one of many under vmap
            return value
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return value
    return int(value) if isinstance(value, numbers.Integral) else float(value)


@dataclass(frozen=True)
class OneOf:
    """One of a few words."""

    words: tuple[str, ...]

    def allows(self, value: object) -> bool:
        return isinstance(value, str) and value in self.words

    def plain(self, value: object) -> object:
        return str(value) if isinstance(value, str) else value

    def accepts_type(self, value: object) -> bool:
        return isinstance(value, str)

    def outside(self) -> list[object]:
        return ["average", 3]

    def __str__(self) -> str:
        return " or ".join(repr(word) for word in self.words)


@dataclass(frozen=True)
class TrueOrFalse:
    """The domain of the annotation ``bool``."""

    def allows(self, value: object) -> bool:
        return isinstance(value, bool)

    def plain(self, value: object) -> object:
        return _python_number(value)

    def accepts_type(self, value: object) -> bool:
        return isinstance(value, bool)

    def outside(self) -> list[object]:
        return ["yes", 1]

    def __str__(self) -> str:
        return "True or False"


@dataclass(frozen=True)
class OneOrMore:
    """One value of a domain, or a non-empty sequence of them."""

    each: Interval

    def allows(self, value: object) -> bool:
        if isinstance(value, (tuple, list)):
            return len(value) > 0 and all(self.each.allows(v) for v in value)
        return self.each.allows(value)

    def plain(self, value: object) -> object:
        """A tuple of Python numbers for any sequence, array or tensor of them."""
        if isinstance(value, (np.ndarray, Tensor)) and value.ndim == 1:
            value = value.tolist()
        return tuple(map(self.each.plain, value)) if isinstance(value, (tuple, list, range)) else self.each.plain(value)

    def accepts_type(self, value: object) -> bool:
        return isinstance(value, (tuple, list)) or self.each.accepts_type(value)

    def outside(self) -> list[object]:
        return [*self.each.outside(), (), ("much",)]

    def __str__(self) -> str:
        return f"{self.each}, or a sequence of them"


@dataclass(frozen=True)
class Range:
    """Two values of a domain, the lower one first."""

    each: Interval

    def allows(self, value: object) -> bool:
        return isinstance(value, tuple) and len(value) == 2 and all(map(self.each.allows, value)) and value[0] < value[1]

    def plain(self, value: object) -> object:
        """A tuple of Python numbers for a list, an array or a tensor of two."""
        return OneOrMore(self.each).plain(value)

    def accepts_type(self, value: object) -> bool:
        return isinstance(value, tuple)

    def outside(self) -> list[object]:
        return ["much", 1.0, (1.0, 0.0), (0.0, 1.0, 2.0), (0.0, "much")]

    def __str__(self) -> str:
        return f"two {str(self.each).removeprefix('a ').replace('number', 'numbers')}, the lower one first"


@dataclass(frozen=True)
class Numbers:
    """A tensor of numbers, such as the weights of the classes, or what can be made one; its shape is the loss's to check."""

    def allows(self, value: object) -> bool:
        return isinstance(value, Tensor) and value.is_floating_point()

    def plain(self, value: object) -> object:
        """A floating-point tensor of its own for an array or a sequence of numbers, and for a tensor of integers."""
        if isinstance(value, Tensor):
            integers = not (value.is_floating_point() or value.is_complex() or value.dtype == torch.bool)
            return value.to(torch.get_default_dtype()) if integers else value
        try:
            array = np.asarray(value)
            if array.dtype.kind not in "iuf":
                return value
            return torch.tensor(array, dtype=None if array is value and array.dtype.kind == "f" else torch.get_default_dtype())
        except (TypeError, ValueError, RuntimeError):  # ragged, or of a type that torch does not have
            return value

    def accepts_type(self, value: object) -> bool:
        return False

    def outside(self) -> list[object]:
        return ["much", [[1.0], [1.0, 2.0]], [None]]

    def __str__(self) -> str:
        return "a tensor, an array or a sequence of numbers"


Domain = Interval | OneOf | OneOrMore | TrueOrFalse | Range | Numbers

Real = Annotated[float, Interval()]
NonNegative = Annotated[float, Interval(low=0.0)]
Positive = Annotated[float, Interval(low=0.0, open_low=True)]
Fraction = Annotated[float, Interval(low=0.0, high=1.0)]
Count = Annotated[int, Interval(low=0, whole=True)]
PositiveCount = Annotated[int, Interval(low=1, whole=True)]
Reals = Annotated[float | Sequence[float], OneOrMore(Interval())]
Vector = Annotated[Tensor | np.ndarray[Any, Any] | Sequence[float], Numbers()]  # in a function, where it is a tensor, Tensor
Reduction = Annotated[Literal["mean", "sum", "none"], OneOf(("mean", "sum", "none"))]
SetReduction = Annotated[Literal["mean", "sum"], OneOf(("mean", "sum"))]  # of a function of the batch as a whole


_OF_TYPE: dict[object, Domain] = {bool: TrueOrFalse(), int: Interval(whole=True), float: Interval(), Tensor: Numbers()}


def domain_of(annotation: object) -> tuple[Domain | None, bool]:
    """The domain in an annotation, or that of its type, and whether None is allowed beside it."""
    parts = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    others = [part for part in parts if part is not type(None)]
    optional = len(others) < len(parts)
    for part in others:
        for extra in getattr(part, "__metadata__", ()):
            if isinstance(extra, Domain):
                return extra, optional
    return _OF_TYPE.get(others[0]) if len(others) == 1 else None, optional


def annotations_of(function: Callable[..., object]) -> Mapping[str, Any]:
    """The annotations of a function's or a class's parameters, with their domains, whatever decorates it."""
    return {name: parameter.annotation for name, parameter in _written(_innermost(function)).parameters.items()}


def _innermost(function: Callable[..., object]) -> Callable[..., object]:
    unwrapped: Callable[..., object] = inspect.unwrap(function.__init__ if inspect.isclass(function) else function)
    return unwrapped


@functools.cache
def _written(function: Any) -> inspect.Signature:
    """The signature in the source, with annotations that are texts read."""
    signature = inspect.signature(function)
    texts = [name for name, parameter in signature.parameters.items() if isinstance(parameter.annotation, str)]
    if not texts:
        return signature
    found = dict(signature.parameters)
    for name in texts:  # by `from __future__ import annotations`
        try:
            found[name] = found[name].replace(annotation=eval(found[name].annotation, function.__globals__))
        except Exception:  # a name that only type checkers know
            continue
    return signature.replace(parameters=list(found.values()))


def domains(function: Callable[..., object]) -> Mapping[str, tuple[Domain, bool]]:
    """The domains of a function's parameters, by name; a positional tensor is data, and has none."""
    return _domains(_innermost(function))


@functools.cache
def _domains(function: Callable[..., object]) -> Mapping[str, tuple[Domain, bool]]:
    found = {}
    for name, parameter in _written(function).parameters.items():
        domain, optional = domain_of(parameter.annotation)
        data = isinstance(domain, Numbers) and parameter.kind is not parameter.KEYWORD_ONLY
        if domain is not None and not data:
            found[name] = (domain, optional)
    return MappingProxyType(found)


def plain_signature(function: Callable[..., object]) -> inspect.Signature:
    """The signature as a person reads it: types without their domains."""
    signature = _written(_innermost(function))
    parameters = [p.replace(annotation=_without_domains(p.annotation)) for p in signature.parameters.values()]
    return signature.replace(parameters=parameters)


def _without_domains(annotation: Any) -> Any:
    if get_origin(annotation) is Annotated:
        return _without_domains(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return Union[tuple(map(_without_domains, get_args(annotation)))]  # noqa: UP007, as the number of parts is not known
    return annotation


def settled(owner: str, declared: Mapping[str, tuple[Domain, bool]], values: Mapping[str, object]) -> dict[str, object]:
    """The values in their plain form; the first one outside its declared domain is refused, in one sentence."""
    found = dict(values)
    for name, (domain, optional) in declared.items():
        if name not in values or (optional and values[name] is None):
            continue
        found[name] = domain.plain(values[name])
        if not domain.allows(found[name]):
            allowed = f"{domain} or None" if optional else f"{domain}"
            error = InvalidValueError if domain.accepts_type(found[name]) else InvalidTypeError
            raise error(f"{owner}: {name} must be {allowed}, got {shown(values[name])}")
    return found


def done(owner: str, progress: object) -> float:
    """The fraction of training done, which a loss that follows a schedule is given with each batch."""
    fraction: Any = settled(owner, {"progress": (Interval(0.0, 1.0), False)}, {"progress": progress})["progress"]
    return float(fraction)


def shown(value: object) -> str:
    """A value in one short line, for an error or a ``repr``: of more than ten numbers the shape, the first and the last."""
    if isinstance(value, (Tensor, np.ndarray)) and value.ndim:
        shape = tuple(value.shape)
        count = math.prod(shape)
        if isinstance(value, Tensor) and value.is_meta:
            return f"<{shape}>"
        if count <= _SHOWN:
            return repr(value.tolist())
        first, last = (value[(at,) * value.ndim].item() for at in (0, -1))
        return f"<{shape}: {first:.6g}, ..., {last:.6g}>"
    if isinstance(value, (tuple, list)) and len(value) > _SHOWN:
        return f"<{(len(value),)}: {shown(value[0])}, ..., {shown(value[-1])}>"
    text = " ".join(repr(value).split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


_SHOWN = 10  # entries that are shown in full
_LONGEST = 200  # characters


def formula(function: Callable[P, R]) -> Callable[P, R]:
    """Mark a pure function as the maths of the objective of its name: its hyper-parameters are checked at every call.

    NumPy's numbers become Python's, and what can be a tensor where a tensor is wanted becomes one on the batch's device.
    """
    declared = domains(function)
    needed = [(name, domain.allows) for name, (domain, optional) in declared.items() if not optional]
    optional = [(name, domain.allows) for name, (domain, optional) in declared.items() if optional]

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        given: Any = kwargs
        for name, allows in needed:
            if name in kwargs and not allows(kwargs[name]):  # in a small batch microseconds count
                given = _settled_beside(function.__name__, declared, args, kwargs)
        for name, allows in optional:
            if given.get(name) is not None and not allows(given[name]):
                given = _settled_beside(function.__name__, declared, args, kwargs)
        try:
            if values.contexts:
                found: R = values.call_checked(function, args, given)
                return found
            return function(*args, **given)
        except (IndexError, RuntimeError):
            failure = values.failure_of(function, args, given)
            if failure is None:
                raise
        raise failure

    checked.__signature__ = plain_signature(function)  # type: ignore[attr-defined]
    return checked


def _settled_beside(
    owner: str, declared: Mapping[str, tuple[Domain, bool]], args: Sequence[object], kwargs: Mapping[str, object]
) -> dict[str, object]:
    """The settled keywords, those that were no tensors on the device of the first tensor."""
    found = settled(owner, declared, kwargs)
    batch = next((value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), None)
    for name, value in found.items():
        if batch is not None and isinstance(value, Tensor) and not isinstance(kwargs[name], Tensor):
            found[name] = value.to(batch.device)
    return found


def checked(owner: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Check what a function or a constructor is given against its annotations at every call, by position or by keyword."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature, declared = inspect.signature(function), domains(function)

        @functools.wraps(function)
        def checking(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                given = signature.bind(*args, **kwargs)
            except TypeError:
                return function(*args, **kwargs)  # Python's own sentence says what is missing or unknown
            given.arguments.update(settled(owner, declared, given.arguments))
            return function(*given.args, **given.kwargs)

        checking.__signature__ = plain_signature(function)  # type: ignore[attr-defined]
        return checking

    return decorate
