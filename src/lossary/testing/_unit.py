"""The subject of the suites of layers, metrics and optimizers: a unit, its parameters, and what it declares."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lossary._core.names import suggestion
from lossary._core.registry import UnitSpec, units
from lossary.errors import InvalidTypeError
from lossary.testing._detect import load
from lossary.testing._outcome import Failed, NotApplicable
from lossary.testing._refusals import Case, complaint, must_refuse

SIZES: dict[str, object] = {
    "lr": 0.05, "hidden_dim": 8, "num_labels": 3, "embedding_dim": 6, "num_classes": 4, "in_dim": 6, "out_dim": 5,
    "num_features": 6, "in_features": 6, "out_features": 4,
}  # fmt: skip


@dataclass(frozen=True)
class UnitSubject:
    """A unit under test.

    ``spec`` is None for a unit that is not registered. ``parameters`` are those that it is built or called with: the caller's,
    and sizes for those that have no default. ``extra`` is what one suite alone needs: inputs or a reference.
    """

    name: str
    family: str
    target: Callable[..., Any]
    parameters: Mapping[str, object] = field(default_factory=dict)
    spec: UnitSpec | None = None
    extra: Callable[..., Any] | None = None

    @property
    def waivers(self) -> Mapping[str, str]:
        return {} if self.spec is None else self.spec.waivers

    def declared(self, what: str) -> Any:
        """What the unit declares of itself; the check does not apply where it declares nothing."""
        if self.spec is None or what not in self.spec.declares:
            raise NotApplicable(f"it does not declare {what!r}")
        return self.spec.declares[what]

    @property
    def keywords(self) -> Mapping[str, inspect.Parameter]:
        return inspect.signature(self.target).parameters

    def need(self, keyword: str) -> None:
        """Leave the check where the unit lacks a parameter."""
        if keyword not in self.keywords:
            raise NotApplicable(f"it has no parameter {keyword!r}")


def unit_subject(
    target: object, kind: str, parameters: Mapping[str, object] | None, extra: Callable[..., Any] | None, made: Mapping[str, object]
) -> UnitSubject:
    """The subject for a registered name, ``module:attribute``, or the class or function itself.

    Args:
        target: what is checked.
        kind: kind of unit whose suite is run.
        parameters: the caller's parameters.
        extra: what one suite alone needs.
        made: values for parameters without a default, by name.
    """
    if isinstance(target, UnitSubject):
        return target
    known = units(kind)
    name = target if isinstance(target, str) else getattr(target, "__name__", type(target).__name__)
    if isinstance(target, str):
        target = known[target] if target in known else load(target)
    spec = target if isinstance(target, UnitSpec) else next((each for each in known.values() if each.target is target), None)
    called = spec.target if spec is not None else target
    if not callable(called):
        raise InvalidTypeError(f"{name}: a {kind} must be a class or a function, got {type(called).__name__}")
    given, signature = dict(parameters or {}), inspect.signature(called).parameters
    for key in given:
        if key not in signature:
            raise InvalidTypeError(
                f"{name}: there is no parameter {key!r}; it takes {', '.join(signature)}{suggestion(key, signature)}"
            )
    for key, parameter in signature.items():
        if parameter.default is parameter.empty and key in made:
            given.setdefault(key, made[key])
    return UnitSubject(spec.name if spec is not None else str(name), kind, called, given, spec, extra)


def refuses_values(subject: UnitSubject, build: Callable[..., object], guesses: Mapping[str, list[object]]) -> str:
    """Try values outside of every declared domain, or guesses where nothing is declared."""
    outside = guesses
    if subject.spec is not None:
        outside = {p.name: p.domain.outside() for p in subject.spec.parameters if p.domain is not None}
    cases: list[Case] = [
        (f"{name}={bad!r}", name, partial(build, **{name: bad}))
        for name, values in outside.items()
        for bad in values
        if name in subject.keywords
    ]
    if not cases:
        raise NotApplicable("it declares no domain of a parameter")
    return must_refuse(subject, cases)


def one_sentence(subject: UnitSubject, what: str, error: Exception) -> None:
    """Fail where a refusal is not a sentence."""
    wrong = complaint(subject, error)
    if wrong:
        raise Failed(f"{what}: {wrong}")


def tensors_in(value: object) -> list[Tensor]:
    """The numbers of a result: a tensor, a number, or a tuple or dict of them."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, (bool, int, float)):
        return [torch.tensor(float(value), dtype=torch.float64)]
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, (tuple, list)):
        return [tensor for each in value for tensor in tensors_in(each)]
    return []


def same_numbers(what: str, actual: object, expected: object, *, rtol: float = 0.0, atol: float = 0.0) -> None:
    """Fail with both numbers where two results differ; NaN equals NaN."""
    left, right = tensors_in(actual), tensors_in(expected)
    if [each.shape for each in left] != [each.shape for each in right]:
        raise Failed(f"{what}: shapes {[tuple(e.shape) for e in left]} instead of {[tuple(e.shape) for e in right]}")
    for one, other in zip(left, right, strict=True):
        a, b = (each.detach().to(torch.complex128 if each.is_complex() else torch.float64) for each in (one, other))
        bad = ~torch.isclose(a, b, rtol=rtol, atol=atol, equal_nan=True)
        if bool(bad.any()):
            raise Failed(f"{what}: {a[bad][0].item():.6g} instead of {b[bad][0].item():.6g}")


def no_trace(run: Callable[[], object], tensors: Mapping[str, Tensor]) -> str:
    """Run, and fail where a given tensor, the gradient mode, the default dtype or the random state is another one afterwards."""
    copies = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    before = torch.get_rng_state(), torch.is_grad_enabled(), torch.get_default_dtype()
    run()
    if not torch.equal(torch.get_rng_state(), before[0]):
        raise Failed("the global random state has moved")
    if (torch.is_grad_enabled(), torch.get_default_dtype()) != before[1:]:
        raise Failed("the gradient mode or the default dtype is another one")
    for name, copy in copies.items():
        same_numbers(f"{name} has changed", tensors[name], copy)
    return f"{len(copies)} tensors and the global state"
