"""One batch: the tensors of one call, by the names of the arguments."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lossary.testing._outcome import NotApplicable

Sides = dict[str, Tensor | float]


@dataclass(frozen=True)
class Batch:
    """The arguments of one call in their order; the first ``positional`` of them are given by position, the rest by name.

    ``leaves`` are those that carry a gradient, the first argument always among them.
    """

    given: Mapping[str, Tensor | float]
    leaves: tuple[str, ...]
    positional: int = 2

    @property
    def arguments(self) -> list[Tensor | float]:
        """What is given by position."""
        return list(self.given.values())[: self.positional]

    @property
    def sides(self) -> Sides:
        """What is given by name."""
        return dict(list(self.given.items())[self.positional :])

    @property
    def output(self) -> Tensor:
        return self[next(iter(self.given))]

    @property
    def target(self) -> Tensor:
        """The second argument, or the only one."""
        return self[list(self.given)[self.positional - 1]]

    @property
    def second(self) -> str | None:
        """The name of the second argument, where there is one."""
        return list(self.given)[1] if self.positional > 1 else None

    @property
    def tensors(self) -> dict[str, Tensor]:
        return {name: value for name, value in self.given.items() if isinstance(value, Tensor)}

    def __getitem__(self, name: str) -> Tensor:
        value = self.given[name]
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} is no tensor")
        return value

    def changed(self, values: Mapping[str, Tensor | float]) -> "Batch":
        """The same call with other values."""
        return Batch({**self.given, **values}, self.leaves, self.positional)

    def without(self, name: str) -> "Batch":
        return Batch({key: value for key, value in self.given.items() if key != name}, self.leaves, self.positional)

    def mapped(self, function: Callable[[Tensor], Tensor]) -> "Batch":
        """The same call with a function of every tensor."""
        return self.changed({name: function(value) for name, value in self.tensors.items()})

    def take(self, rows: Tensor | slice) -> "Batch":
        """Some of the samples, each with what belongs to it. The targets of bags belong to the bags, and stay."""
        kept = {"target"} if "bag" in self.given else set()
        return self.changed({name: value[rows] for name, value in self.tensors.items() if name not in kept})

    def targeted(self, target: Tensor) -> "Batch":
        """The same call with another second argument."""
        return self.changed({list(self.given)[1]: target})


def inputs_of(loss: object) -> dict[str, inspect.Parameter]:
    """The arguments of a loss that can be given by position or by name."""
    try:
        called: object = getattr(loss, "called_as", None) or getattr(loss, "forward", loss)
        found = inspect.signature(called).parameters  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return {}
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name: p for name, p in found.items() if p.kind in named and name != "self"}


def wants(loss: nn.Module) -> tuple[str, ...]:
    """What it says it requires; for a loss that says nothing, the inputs after the first two that have no default."""
    said = getattr(loss, "requires", None)
    if said is not None:
        return tuple(said)
    return tuple(name for name, p in list(inputs_of(loss).items())[2:] if p.default is p.empty)


def made_up(names: Iterable[str], output: Tensor, target: Tensor | None, *, samples: int | None = None, seed: int = 0) -> Sides:
    """Extra inputs that fit a batch, the same ones for every batch of its shape.

    Groups and bags have different sizes, and some bags may be missing; ``samples`` is the size of the data set that ``index``
    points into.
    """
    n = output.shape[0]
    generator = torch.Generator().manual_seed(4000 + seed)
    found: Sides = {}
    for name in names:
        if name == "index":
            found[name] = (torch.arange(n) + 50 * seed) % (samples or n + 1)
        elif name == "progress":
            found[name] = 0.5 + 0.4 * seed / (1 + seed)
        elif name == "group":
            found[name] = torch.randint(3, (n,), generator=generator)
        elif name == "bag" and target is not None:
            found[name] = torch.randint(max(target.shape[0], 1), (n,), generator=generator)
        elif name == "likelihood":
            found[name] = torch.rand(n, generator=generator, dtype=torch.float64).to(output.dtype)
        elif name == "adversarial_logits":
            drawn = torch.randn(output.shape, generator=generator, dtype=torch.float64)
            found[name] = (drawn * 2).to(output.dtype)
        else:
            raise NotApplicable(f"it wants {name!r}, for which the suite has no inputs")
    return found
