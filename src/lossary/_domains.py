"""What a hyper-parameter may be, written once, in its annotation: ``gamma: NonNegative = 2.0``.

The annotation is read by :func:`formula` (which refuses anything else, in one sentence), by ``lossary show`` and by the
conformance suite (which tries values outside of it). For a type checker it is the plain type.
"""

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, ParamSpec, TypeVar, get_args

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
        if not isinstance(value, int if self.whole else (int, float)) or isinstance(value, bool):
            return False
        above = value > self.low if self.open_low else value >= self.low
        return above and value <= self.high and abs(value) < math.inf

    def accepts_type(self, value: object) -> bool:
        return isinstance(value, int if self.whole else (int, float)) and not isinstance(value, bool)

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


@dataclass(frozen=True)
class OneOf:
    """One of a few words."""

    words: tuple[str, ...]

    def allows(self, value: object) -> bool:
        return isinstance(value, str) and value in self.words

    def accepts_type(self, value: object) -> bool:
        return isinstance(value, str)

    def outside(self) -> list[object]:
        return ["average", 3]

    def __str__(self) -> str:
        return " or ".join(repr(word) for word in self.words)


@dataclass(frozen=True)
class TrueOrFalse:
    """What the annotation ``bool`` means."""

    def allows(self, value: object) -> bool:
        return isinstance(value, bool)

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

    def accepts_type(self, value: object) -> bool:
        return isinstance(value, (tuple, list)) or self.each.accepts_type(value)

    def outside(self) -> list[object]:
        return [*self.each.outside(), (), ("much",)]

    def __str__(self) -> str:
        return f"{self.each}, or a sequence of them"


Domain = Interval | OneOf | OneOrMore | TrueOrFalse

Real = Annotated[float, Interval()]
NonNegative = Annotated[float, Interval(low=0.0)]
Positive = Annotated[float, Interval(low=0.0, open_low=True)]
Fraction = Annotated[float, Interval(low=0.0, high=1.0)]
Count = Annotated[int, Interval(low=0, whole=True)]
PositiveCount = Annotated[int, Interval(low=1, whole=True)]
Reals = Annotated[float | tuple[float, ...] | list[float], OneOrMore(Interval())]
Reduction = Annotated[Literal["mean", "sum", "none"], OneOf(("mean", "sum", "none"))]
SetReduction = Annotated[Literal["mean", "sum"], OneOf(("mean", "sum"))]  # of a function of the batch as a whole


def domain_of(annotation: object) -> tuple[Domain | None, bool]:
    """The domain in an annotation, and whether None is allowed beside it."""
    if annotation is bool:
        return TrueOrFalse(), False
    optional = False
    for part in (annotation, *get_args(annotation)):
        if part is type(None):
            optional = True
        for extra in getattr(part, "__metadata__", ()):
            if isinstance(extra, (Interval, OneOf, OneOrMore)):
                return extra, type(None) in get_args(annotation)
    return None, optional


def domains(function: Callable[..., object]) -> dict[str, tuple[Domain, bool]]:
    """The domains that a function's annotations declare, by parameter."""
    found = {}
    for name, parameter in inspect.signature(function).parameters.items():
        domain, optional = domain_of(parameter.annotation)
        if domain is not None:
            found[name] = (domain, optional)
    return found


def check_values(owner: str, declared: Mapping[str, tuple[Domain, bool]], values: Mapping[str, object]) -> None:
    """Refuse, in one sentence, the first value outside its declared domain."""
    for name, (domain, optional) in declared.items():
        if name not in values:
            continue
        value = values[name]
        if (optional and value is None) or domain.allows(value):
            continue
        allowed = f"{domain} or None" if optional else f"{domain}"
        error = InvalidValueError if domain.accepts_type(value) else InvalidTypeError
        raise error(f"{owner}: {name} must be {allowed}, got {value!r}")


def formula(function: Callable[P, R]) -> Callable[P, R]:
    """Mark a pure function as the maths of the objective of its name: its hyper-parameters are checked at every call."""
    declared = domains(function)
    allowed = [(name, domain.allows) for name, (domain, _) in declared.items()]

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for name, allows in allowed:
            if name in kwargs and not allows(kwargs[name]):  # in a small batch microseconds count
                check_values(function.__name__, declared, kwargs)
        return function(*args, **kwargs)

    return checked


def checked(owner: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Check what a function or a constructor is given against its annotations at every call, by position or by keyword."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature, declared = inspect.signature(function), domains(function)

        @functools.wraps(function)
        def checking(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                given = signature.bind(*args, **kwargs).arguments
            except TypeError:
                return function(*args, **kwargs)  # Python's own sentence says what is missing or unknown
            check_values(owner, declared, given)
            return function(*args, **kwargs)

        return checking

    return decorate
