"""One batch: the output, the target, and what a loss wants by keyword beside them."""

import inspect
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lossary.testing._outcome import NotApplicable

Sides = dict[str, Tensor | float]
KNOWN = ("index", "progress", "group", "bag", "likelihood", "adversarial_logits")


class Batch(NamedTuple):
    """The arguments of one call."""

    output: Tensor
    target: Tensor
    sides: Sides

    def take(self, rows: Tensor | slice) -> "Batch":
        """Some of the samples, each with what belongs to it. The targets of bags belong to the bags, and stay."""
        target = self.target if "bag" in self.sides else self.target[rows]
        sides = {name: value[rows] if isinstance(value, Tensor) else value for name, value in self.sides.items()}
        return Batch(self.output[rows], target, sides)


def wants(loss: nn.Module) -> tuple[str, ...]:
    """What it says it requires; for a loss that says nothing, the inputs after the first two that have no default."""
    said = getattr(loss, "requires", None)
    if said is not None:
        return tuple(said)
    try:
        inputs = list(inspect.signature(loss.forward).parameters.values())[2:]
    except (TypeError, ValueError):
        return ()
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return tuple(p.name for p in inputs if p.kind in named and p.default is p.empty)


def made_up(names: Iterable[str], output: Tensor, target: Tensor, *, samples: int | None = None, seed: int = 0) -> Sides:
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
        elif name == "bag":
            found[name] = torch.randint(max(target.shape[0], 1), (n,), generator=generator)
        elif name == "likelihood":
            found[name] = torch.rand(n, generator=generator, dtype=torch.float64).to(output.dtype)
        elif name == "adversarial_logits":
            drawn = torch.randn(output.shape, generator=generator, dtype=torch.float64)
            found[name] = (drawn * 2).to(output.dtype)
        else:
            raise NotApplicable(f"it wants {name!r}, for which the suite has no inputs")
    return found
