"""What is checked: a loss, how to build it with other parameters, and what it supports."""

import copy
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lossary._core.parameters import Interval
from lossary._core.registry import Spec
from lossary.testing._batch import Batch, Sides, wants
from lossary.testing._inputs import Inputs
from lossary.testing._outcome import Failed, NotApplicable
from lossary.testing._refusals import complaint
from lossary.testing._table import first_line

SAMPLES = 100  # how many samples there are in the data set that a loss remembers

__all__ = [
    "Batch", "Build", "Failed", "NotApplicable", "Sides", "Subject", "agree", "call", "complaint", "finite", "first_line",
    "gradients_of", "keywords_of", "required_by", "same", "seeded", "value_and_gradient", "wants",
]  # fmt: skip


class Build(Protocol):
    """Makes the loss with some of its parameters changed."""

    def __call__(self, **parameters: Any) -> nn.Module: ...


@dataclass(frozen=True)
class Subject:
    """A loss under test.

    ``spec`` is None for one that is not registered, ``keywords`` are the parameters it can be built with, ``given`` those that the
    caller chose, and ``required`` those that it cannot be built without and that are made up to fit the inputs. Two losses that are
    made with the same ``seed`` have the same random weights.
    """

    name: str
    inputs: Inputs
    build: Build
    keywords: frozenset[str]
    given: Mapping[str, object] = field(default_factory=dict)
    required: Mapping[str, object] = field(default_factory=dict)
    seed: int = 0
    spec: Spec | None = None
    soft_targets: bool = True
    takes_space: bool = True

    @property
    def spatial(self) -> bool:
        """Whether outputs may have more dimensions than the first two of the family."""
        return self.takes_space and self.inputs.takes_space

    @property
    def family(self) -> str:
        return self.inputs.family

    @property
    def decomposable(self) -> bool:
        return self.family not in ("bags", "embedding", "contrastive") if self.spec is None else self.spec.decomposable

    @property
    def waivers(self) -> Mapping[str, str]:
        return {} if self.spec is None else self.spec.waivers

    @property
    def stochastic(self) -> bool:
        return self.spec is not None and self.spec.stochastic

    @property
    def as_declared(self) -> bool:
        """Whether it is built as registered: with other parameters a loss may well be better than its spec says."""
        return self.spec is not None and not self.given

    @property
    def itemised(self) -> bool:
        """Whether ``reduction="none"`` gives a value for each item, which may all the same depend on the whole batch."""
        if not self.takes("reduction"):
            return False
        if self.spec is None:
            return self.decomposable
        domain = next((p.domain for p in self.spec.parameters if p.name == "reduction"), None)
        return domain.allows("none") if domain is not None else self.decomposable

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of batch there are: hard and soft targets, or with and without what can be left out."""
        return tuple(kind for kind in self.inputs.kinds if kind != "soft" or self.soft_targets)

    def make(self, **parameters: Any) -> nn.Module:
        """A loss that nobody has used. One with weights or a memory of its own has seen a batch, and so has found its scale."""
        with seeded(self.seed):
            loss = self.build(**{**self.required, **self.given, **self.named(parameters)})
            self.inputs.prepare(loss)
        if isinstance(loss, nn.Module) and ("index" in wants(loss) or any(True for _ in loss.parameters())):
            with torch.no_grad(), seeded(self.seed):
                batch = self.batch(6, seed=self.seed + 7, loss=loss)
                loss(*batch.arguments, **batch.sides)
        return loss

    def named(self, parameters: Mapping[str, object]) -> dict[str, object]:
        """Parameters by the loss's own names: where ``weight`` is a matrix of its own, class weights are ``class_weight``."""
        rename = {"weight": "class_weight"} if "class_weight" in self.keywords else {}
        return {rename.get(name, name): value for name, value in parameters.items()}

    def batch(self, n: int, *, loss: nn.Module | None = None, **drawing: Any) -> Batch:
        """A batch of n samples with everything that the loss wants (``seed``, ``kind``, ``dtype``, ``space``, ``scale``)."""
        return self.inputs.batch(self.make() if loss is None else loss, n, **drawing)

    def by_function(self, batch: Batch, **parameters: Any) -> Tensor:
        """The value of the pure function, given what the module that is built with the same parameters holds."""
        if self.spec is None:
            raise NotApplicable("only a registered objective has a pure function beside its module")
        function = self.spec.function
        given = {**self.required, **self.given, **self.named(parameters)}
        taken = keywords_of(function)
        positional = [p for p in taken.values() if p.kind is not p.KEYWORD_ONLY][batch.positional :]
        loss = self.make(**parameters) if positional else None
        held: list[object] = [
            batch.given[p.name] if p.name in batch.sides else getattr(loss, p.name) if p.default is p.empty else p.default
            for p in positional
        ]
        with seeded():
            value: Tensor | tuple[Tensor, ...] = function(
                *batch.arguments, *held, **{name: v for name, v in given.items() if name in taken}
            )
        return value[0] if isinstance(value, tuple) else value  # a function that remembers returns its memory as well

    def takes(self, keyword: str) -> bool:
        """Whether it has this parameter. A ``weight`` that is one number is the weight of a term, and another thing."""
        name = next(iter(self.named({keyword: None})))
        numbers = () if self.spec is None else tuple(p.name for p in self.spec.parameters if isinstance(p.domain, Interval))
        return name in self.keywords and not (keyword in ("weight", "pos_weight") and name in numbers)

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


class seeded:  # noqa: N801
    """Draws from torch's global random state start from a seed, and leave that state as it was."""

    def __init__(self, seed: int = 0):
        self.seed = seed

    def __enter__(self) -> None:
        self.before = torch.get_rng_state()
        torch.default_generator.manual_seed(self.seed)

    def __exit__(self, *fault: object) -> None:
        torch.set_rng_state(self.before)


def required_by(names: Iterable[str], classes: int) -> dict[str, object]:
    """Values for parameters without a default, those that the suite knows how to choose."""
    known: dict[str, object] = {
        "num_classes": classes,
        "embedding_dim": 4,
        "feature_dim": 4,
        "num_samples": SAMPLES,
        "class_counts": torch.tensor([100 // (i + 1) for i in range(classes)]),
    }
    return {name: known[name] for name in names if name in known}


def call(loss: nn.Module, batch: Batch) -> Tensor:
    """The value of the loss.

    Two calls draw the same random numbers, and find the same memory of past samples: it is a copy that remembers this batch.
    """
    if "index" in batch.given:
        loss = copy.deepcopy(loss)
    with seeded():
        value = loss(*batch.arguments, **batch.sides)
    if not isinstance(value, Tensor):
        raise Failed(f"the loss returned {type(value).__name__}, not a tensor")
    return value


def gradients_of(loss: nn.Module, batch: Batch, *, upstream: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
    """The value, and its gradient for everything that carries one (weighted with ``upstream`` where there are several values)."""
    leaves = {name: batch[name].detach().clone().requires_grad_() for name in batch.leaves}
    value = call(loss, batch.changed(leaves))
    if not value.requires_grad:
        raise Failed("the loss carries no gradient")
    found = torch.autograd.grad(
        value, list(leaves.values()), torch.ones_like(value) if upstream is None else upstream, allow_unused=len(leaves) > 1
    )
    for name, gradient in zip(leaves, found, strict=True):
        if gradient is None:
            raise Failed(f"the loss carries no gradient to {name}")
    return value.detach(), dict(zip(leaves, found, strict=True))


def value_and_gradient(loss: nn.Module, batch: Batch, *, upstream: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The value and its gradient; those of several arguments stand side by side, a row for each sample."""
    value, found = gradients_of(loss, batch, upstream=upstream)
    return value, side_by_side(found)


def side_by_side(gradients: Mapping[str, Tensor]) -> Tensor:
    each = list(gradients.values())
    return each[0] if len(each) == 1 else torch.cat([gradient.flatten(1) for gradient in each], 1)


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
