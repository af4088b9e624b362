"""What is checked: a loss, how to build it with other parameters, and what it supports."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lossary._registry import Spec
from lossary.testing._inputs import Inputs


class Failed(Exception):  # noqa: N818
    """A check found a fault; the text names the numbers."""


class NotApplicable(Exception):  # noqa: N818
    """A check says nothing about this loss; the text says why."""


class Build(Protocol):
    """Makes the loss with some of its parameters changed."""

    def __call__(self, **parameters: Any) -> nn.Module: ...


@dataclass(frozen=True)
class Subject:
    """A loss under test. ``spec`` is None for one that is not registered; ``keywords`` are the parameters it can be built with."""

    name: str
    inputs: Inputs
    build: Build
    keywords: frozenset[str]
    given: Mapping[str, object] = field(default_factory=dict)
    spec: Spec | None = None
    soft_targets: bool = True
    spatial: bool = True

    @property
    def family(self) -> str:
        return self.inputs.family

    @property
    def decomposable(self) -> bool:
        return self.spec is None or self.spec.decomposable

    @property
    def as_declared(self) -> bool:
        """Whether it is built as registered: with other parameters a loss may well be better than its spec says."""
        return self.spec is not None and not self.given

    @property
    def softable(self) -> tuple[bool, ...]:
        """The kinds of target there are: hard, then soft where they are accepted and differ from hard ones."""
        return (False, True) if self.soft_targets and self.family != "regression" else (False,)

    def make(self, **parameters: Any) -> nn.Module:
        return self.build(**{**self.given, **parameters})

    def takes(self, keyword: str) -> bool:
        return keyword in self.keywords

    def need(self, *keywords: str) -> None:
        """Leave the check where the loss lacks one of these parameters."""
        for keyword in keywords:
            if not self.takes(keyword):
                raise NotApplicable(f"it has no parameter {keyword!r}")

    def need_spec(self, why: str) -> Spec:
        if self.spec is None:
            raise NotApplicable(why)
        return self.spec

    def summed(self, **parameters: Any) -> nn.Module:
        """The loss with ``reduction="sum"``, or as it is where it has no reduction."""
        return self.make(reduction="sum", **parameters) if self.takes("reduction") else self.make(**parameters)


def complaint(subject: Subject, error: BaseException, argument: str | None = None) -> str | None:
    """What is wrong with a refusal, or None. Losses that are not registered may use the plain built-in errors."""
    from lossary.errors import LossaryError

    text = str(error)
    if not isinstance(error, (ValueError, TypeError)):
        return f"{type(error).__name__} instead of ValueError or TypeError: {first_line(text)}"
    if subject.spec is None:
        return None
    if not isinstance(error, LossaryError):
        return f"{type(error).__name__} is not a LossaryError: {first_line(text)}"
    if "\n" in text or not text.startswith(f"{subject.spec.name}: ") or "got" not in text:
        return f'it should read "{subject.spec.name}: ... must be ..., got ..." in one line: {text!r}'
    if argument is not None and argument not in text:
        return f"the sentence does not name {argument}: {text!r}"
    return None


def first_line(text: str) -> str:
    line = text.strip().partition("\n")[0]
    return line if len(line) <= 160 else line[:157] + "..."


def call(loss: nn.Module, output: Tensor, target: Tensor) -> Tensor:
    """The value of the loss; whatever it wants beyond the output and the target is made up to fit."""
    extra: dict[str, object] = {}
    for name in getattr(loss, "requires", ()):
        if name == "index":
            extra[name] = torch.arange(output.shape[0])
        elif name == "progress":
            extra[name] = 0.5
        else:
            raise NotApplicable(f"it wants {name!r}, for which the suite has no inputs")
    value = loss(output, target, **extra)
    if not isinstance(value, Tensor):
        raise Failed(f"the loss returned {type(value).__name__}, not a tensor")
    return value


def value_and_gradient(loss: nn.Module, output: Tensor, target: Tensor, upstream: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The value, and its gradient with respect to the output (weighted with ``upstream`` where the value is not one number)."""
    leaf = output.detach().clone().requires_grad_()
    value = call(loss, leaf, target)
    if not value.requires_grad:
        raise Failed("the loss carries no gradient")
    (gradient,) = torch.autograd.grad(value, leaf, torch.ones_like(value) if upstream is None else upstream)
    return value.detach(), gradient


def agree(what: str, actual: Tensor, expected: Tensor, *, rtol: float = 1e-9, atol: float = 1e-11) -> None:
    """Fail with both numbers where two tensors differ; the tolerance grows for a loss that computes in float32."""
    if actual.shape != expected.shape:
        raise Failed(f"{what}: shape {tuple(actual.shape)} instead of {tuple(expected.shape)}")
    if actual.dtype != torch.float64:
        rtol, atol = max(rtol, 2e-5), max(atol, 1e-6)
    actual, expected = actual.detach().double(), expected.detach().double()
    off = (actual - expected).abs()
    bad = ~(off <= atol + rtol * expected.abs())  # written so that NaN is bad
    if bool(bad.any()):
        at = int(off.nan_to_num(float("inf")).mul(bad).argmax())
        raise Failed(f"{what}: {actual.flatten()[at]:.6g} instead of {expected.flatten()[at]:.6g}")


def same(what: str, left: tuple[Tensor, Tensor], right: tuple[Tensor, Tensor]) -> None:
    """Fail where two values, or their gradients, differ."""
    agree(f"{what}, value", left[0], right[0])
    agree(f"{what}, gradient", left[1], right[1])


def finite(what: str, *tensors: Tensor) -> None:
    for name, tensor in zip(("the loss", "the gradient"), tensors, strict=False):
        if not bool(tensor.isfinite().all()):
            raise Failed(f"{what}: {name} is {tensor[~tensor.isfinite()].flatten()[0]:g}")


def keywords_of(factory: object) -> dict[str, inspect.Parameter]:
    """The parameters that a class, a factory or a function can be given by name."""
    try:
        parameters = inspect.signature(factory).parameters  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return {}
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name: parameter for name, parameter in parameters.items() if parameter.kind in by_name}
