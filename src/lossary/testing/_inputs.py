"""What the suite knows of a family: how to make a batch of it, and what is wrong, right, extreme or the same in it.

One small class for each row of the calling convention. Everything is drawn from a seed of its own, so that no check depends on
another or on global random state.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from lossary.testing._batch import Batch, made_up, wants

Mistake = tuple[str, str | None, Mapping[str, object]]  # what is wrong, the argument to be named, and the values that are wrong


@dataclass(frozen=True)
class Inputs(ABC):
    """Makes the batches of one family.

    Dimension 1 of an output has the size of ``classes``, or of ``embedding`` for a loss with weights of its own.
    """

    classes: int = 5
    embedding: int | None = None
    family: ClassVar[str]
    takes_space: ClassVar[bool] = True  # whether outputs of the family may have more dimensions than their first two
    by_class: ClassVar[bool] = False  # whether ``weight`` has one number for each class
    kinds: ClassVar[tuple[str, ...]] = ("hard",)
    simplex: ClassVar[int | None] = None  # the dimension over which predicted probabilities sum to one
    costly: ClassVar[bool] = False  # whether a batch of a few samples costs a multiple of what its samples cost
    few: ClassVar[int] = 3  # how many samples make a batch in which something happens

    @property
    def width(self) -> int:
        """The size of dimension 1 of an output."""
        return self.classes if self.embedding is None else self.embedding

    def shape(self, n: int, space: tuple[int, ...] = ()) -> tuple[int, ...]:
        """The shape of the output for n samples."""
        return (n, self.width, *space)

    def output(
        self, n: int, *, seed: int = 0, dtype: torch.dtype = torch.float64, space: tuple[int, ...] = (), scale: float = 2.0
    ) -> Tensor:
        """Raw outputs, rounded to the dtype."""
        generator = torch.Generator().manual_seed(1000 + seed)
        # float32 is drawn for big maps, where float64 would take twice as long for digits that a half dtype cannot keep
        drawn = torch.float64 if dtype == torch.float64 else torch.float32
        return (torch.randn(self.shape(n, space), generator=generator, dtype=drawn) * scale).to(dtype)

    @abstractmethod
    def target(
        self, n: int, *, seed: int = 0, dtype: torch.dtype = torch.float64, space: tuple[int, ...] = (), kind: str = "hard"
    ) -> Tensor:
        """What the outputs are held against."""

    def batch(
        self,
        loss: nn.Module,
        n: int,
        *,
        seed: int = 0,
        kind: str = "",
        dtype: torch.dtype = torch.float64,
        space: tuple[int, ...] = (),
        scale: float = 2.0,
        side_seed: int = 0,
    ) -> Batch:
        """n samples, with everything that a loss wants beside its output and its target."""
        output = self.output(n, seed=seed, dtype=dtype, space=space, scale=scale)
        target = self.target(n, seed=seed, dtype=dtype, space=space, kind=kind or self.kinds[0])
        return self.call(loss, output, target, side_seed)

    def prepare(self, loss: object) -> None:
        """Show a loss the data it has to see before it can be called."""
        return

    def call(self, loss: nn.Module, output: Tensor, target: Tensor, side_seed: int = 0) -> Batch:
        """An output and a target, with what a loss wants beside them."""
        samples = getattr(loss, "num_samples", None)
        sides = made_up(wants(loss), output, target, samples=samples if isinstance(samples, int) else None, seed=side_seed)
        return Batch({"output": output, "target": target, **sides}, ("output",))

    def per_item(self, batch: Batch) -> tuple[int, ...]:
        """The shape of ``reduction="none"``: a value for each sample, or for each element."""
        return (*batch.output.shape[:1], *self.predicted(batch.output)[1:])

    def divisor(self, batch: Batch, weight: Tensor | None) -> Tensor | None:
        """What the mean divides by; None is any whole number of the batch's things."""
        return torch.tensor(float(torch.Size(self.per_item(batch)).numel()), dtype=torch.float64)

    def predicted(self, output: Tensor) -> tuple[int, ...]:
        """The shape of what the link makes of an output."""
        return tuple(output.shape) if self.embedding is None else (output.shape[0], self.classes, *output.shape[2:])

    def class_weight(self, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
        """Different positive weights for the classes."""
        return (
            torch.rand(self.classes, generator=torch.Generator().manual_seed(3000 + seed), dtype=torch.float64).add(0.5).to(dtype)
        )

    def wrong(self, margin: float, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
        """One sample that is wrong by a margin for each label (right for a negative margin), and its target."""
        return None

    def pull(self, gradient: Tensor, margin: float) -> Tensor:
        """How strongly the gradient of a wrong sample pulls each wrong output to its target."""
        raise NotImplementedError

    def extremes(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """Outputs with every kind of extreme, at every place."""
        return extreme_rows(self.width).to(dtype)

    def extreme_batches(self, loss: nn.Module, *, dtype: torch.dtype = torch.float64, kind: str = "") -> dict[str, Batch]:
        """Batches of extreme inputs, by what is extreme in them."""
        output = self.extremes(dtype)
        batch = self.call(loss, output, self.target(len(output), dtype=dtype, kind=kind or self.kinds[0]))
        # another output is as extreme as the first
        alike = {name: output.flip(0) for name, side in batch.sides.items() if isinstance(side, Tensor) and side.ndim > 1}
        return {f"{len(output)} samples": batch.changed(alike)}

    def uniform(self, loss: nn.Module, n: int) -> dict[str, Batch]:
        """Batches in which all samples have one target."""
        found = {}
        for seed in range(n if n == 1 else 3):
            batch = self.batch(loss, n)
            target = self.target(n, seed=seed)
            found[f"{n} samples of one class, {seed}"] = batch.targeted(target[:1].expand_as(target))
        return found

    def constants(self, batch: Batch) -> list[str]:
        """Outputs of other models, which the loss must not move."""
        return []

    def hidden(self, batch: Batch) -> dict[str, Tensor]:
        """Which entries of which inputs a mask says are real."""
        return {}

    def symmetries(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        """Orders of dimension 1 that make no difference, by what is reordered: an order for each input that takes part."""
        return {}

    def mistakes(self, batch: Batch, first: str, second: str | None) -> list[Mistake]:
        """Tensors that have to be refused."""
        output, target, short = batch.output, batch.target, self.target(5)
        wrong: list[Mistake] = [
            (f"{first} that are not a tensor", first, {"output": output.tolist()}),
            (f"integer {first}", first, {"output": output.long()}),
            ("a target that is not a tensor", second, {"target": target.tolist()}),
            ("a complex target", second, {"target": target.to(torch.complex64)}),
            ("a target of another batch size", second, {"target": short}),
        ]
        if self.embedding is not None:
            wrong.append(("embeddings of another width", first, {"output": output[:, :-1]}))
        return wrong


def extreme_rows(width: int) -> Tensor:
    """Rows of numbers with every kind of extreme, at every place."""
    rows = [torch.full((width,), size) for size in (0.0, 1e4, -1e4, 100.0, -100.0)]
    for size in (1e4, -1e4, 89.0, -89.0, 30.0, -30.0):
        rows += [torch.eye(width)[i] * size for i in range(width)]
        rows.append(torch.linspace(-abs(size), abs(size), width))
    return torch.stack(rows)


class Classification(Inputs):
    """One class of several, by its index or as probabilities."""

    family = "classification"
    simplex = 1
    by_class = True
    kinds = ("hard", "soft")

    def target(
        self, n: int, *, seed: int = 0, dtype: torch.dtype = torch.float64, space: tuple[int, ...] = (), kind: str = "hard"
    ) -> Tensor:
        generator = torch.Generator().manual_seed(2000 + seed)
        if kind == "soft":
            return torch.randn((n, self.classes, *space), generator=generator, dtype=torch.float64).softmax(1).to(dtype)
        return torch.randint(self.classes, (n, *space), generator=generator)

    def per_item(self, batch: Batch) -> tuple[int, ...]:
        return (batch.output.shape[0], *batch.output.shape[2:])

    def divisor(self, batch: Batch, weight: Tensor | None) -> Tensor | None:
        """See "One rule for targets, weights and means"."""
        if weight is not None and not batch.target.is_floating_point():
            return torch.as_tensor(weight[batch.target].sum())
        return super().divisor(batch, weight)

    def one_hot(self, target: Tensor) -> Tensor:
        """Class indices (n, *) as probabilities (n, classes, *)."""
        return torch.nn.functional.one_hot(target, self.classes).movedim(-1, 1).double()

    def wrong(self, margin: float, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
        output = torch.zeros(1, self.classes, dtype=dtype)
        output[0, 1] = margin
        return output, torch.tensor([0])

    def pull(self, gradient: Tensor, margin: float) -> Tensor:
        return -gradient[0, :1].double()

    def mistakes(self, batch: Batch, first: str, second: str | None) -> list[Mistake]:
        output, target, soft = batch.output, batch.target, self.target(6, kind="soft")
        return [
            *super().mistakes(batch, first, second),
            (f"one-dimensional {first}", first, {"output": output[:, 0]}),
            ("floating-point class indices", second, {"target": target.double()}),
            ("boolean class indices", second, {"target": target.bool()}),
            ("probabilities with a class missing", second, {"target": soft[:, :-1]}),
            ("integer probabilities", second, {"target": soft.round().long()}),
        ]


class Elementwise(Inputs):
    """Targets of the shape of the output."""

    def mistakes(self, batch: Batch, first: str, second: str | None) -> list[Mistake]:
        return [
            *super().mistakes(batch, first, second),
            ("a target that would be broadcast", second, {"target": batch.target[:, :1]}),
        ]


class Multilabel(Elementwise):
    """Labels that are independent of each other."""

    family = "multilabel"
    kinds = ("hard", "soft")

    def target(
        self, n: int, *, seed: int = 0, dtype: torch.dtype = torch.float64, space: tuple[int, ...] = (), kind: str = "hard"
    ) -> Tensor:
        generator = torch.Generator().manual_seed(2000 + seed)
        drawn = torch.rand((n, self.classes, *space), generator=generator, dtype=torch.float64)
        return (drawn if kind == "soft" else (drawn < 0.4).double()).to(dtype)

    def wrong(self, margin: float, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
        target = (torch.arange(self.classes) % 2 == 0).to(dtype).unsqueeze(0)
        return margin - 2 * margin * target, target

    def pull(self, gradient: Tensor, margin: float) -> Tensor:
        return gradient[0, :2].double() * torch.tensor([-1.0, 1.0], dtype=torch.float64)

    def uniform(self, loss: nn.Module, n: int) -> dict[str, Batch]:
        return {**super().uniform(loss, n), **_filled(self, loss)}


class LabelRanking(Elementwise):
    """One or more labels of a row, to be ranked above the others."""

    family = "label_ranking"

    def target(
        self, n: int, *, seed: int = 0, dtype: torch.dtype = torch.float64, space: tuple[int, ...] = (), kind: str = "hard"
    ) -> Tensor:
        generator = torch.Generator().manual_seed(2000 + seed)
        drawn = torch.rand((n, self.classes, *space), generator=generator, dtype=torch.float64)
        return (drawn <= drawn.amin(1, keepdim=True).clamp_min(0.4)).to(dtype)

    def per_item(self, batch: Batch) -> tuple[int, ...]:
        return (batch.output.shape[0], *batch.output.shape[2:])

    def divisor(self, batch: Batch, weight: Tensor | None) -> Tensor | None:
        return (batch.target > 0).any(1).sum().double()

    def wrong(self, margin: float, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
        output = torch.zeros(1, self.classes, dtype=dtype)
        output[0, 0], output[0, 1] = -margin, margin
        return output, torch.eye(1, self.classes, dtype=dtype)

    def pull(self, gradient: Tensor, margin: float) -> Tensor:
        return gradient[0, :2].double() * torch.tensor([-1.0, 1.0], dtype=torch.float64)

    def uniform(self, loss: nn.Module, n: int) -> dict[str, Batch]:
        return {**super().uniform(loss, n), **_filled(self, loss)}

    def symmetries(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        order = torch.arange(batch.output.shape[1]).roll(3).flip(0)
        return {"labels": {"output": order, "target": order}}


def _filled(inputs: Inputs, loss: nn.Module) -> dict[str, Batch]:
    """Every label the same."""
    batch = inputs.batch(loss, 4)
    return {f"every label {value:g}": batch.targeted(torch.full_like(batch.target, value)) for value in (0.0, 1.0)}


class Regression(Elementwise):
    """A number for each output."""

    family = "regression"

    def target(
        self, n: int, *, seed: int = 0, dtype: torch.dtype = torch.float64, space: tuple[int, ...] = (), kind: str = "hard"
    ) -> Tensor:
        generator = torch.Generator().manual_seed(2000 + seed)
        return (torch.randn((n, self.classes, *space), generator=generator, dtype=torch.float64) * 2).to(dtype)

    def divisor(self, batch: Batch, weight: Tensor | None) -> Tensor | None:
        return super().divisor(batch, weight) if weight is None else torch.as_tensor(weight.expand_as(batch.output).sum())

    def wrong(self, margin: float, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
        return torch.tensor([[margin, -margin]], dtype=dtype), torch.zeros(1, 2, dtype=dtype)

    def pull(self, gradient: Tensor, margin: float) -> Tensor:
        pull = gradient[0, :2].double() * torch.tensor([1.0, -1.0], dtype=torch.float64)
        return pull if margin >= 0 else -pull


class Bags(Inputs):
    """A number for each sample, and the mean of each bag of samples."""

    family = "bags"

    def shape(self, n: int, space: tuple[int, ...] = ()) -> tuple[int, ...]:
        return (n, *space)

    def target(
        self, n: int, *, seed: int = 0, dtype: torch.dtype = torch.float64, space: tuple[int, ...] = (), kind: str = "hard"
    ) -> Tensor:
        return torch.rand((n + 1) // 2, generator=torch.Generator().manual_seed(2000 + seed), dtype=torch.float64).to(dtype)

    def wrong(self, margin: float, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
        return torch.tensor([margin], dtype=dtype), torch.zeros(1, dtype=dtype)

    def pull(self, gradient: Tensor, margin: float) -> Tensor:
        return gradient.double() * (1 if margin >= 0 else -1)

    def extremes(self, dtype: torch.dtype = torch.float64) -> Tensor:
        return super().extremes(dtype).flatten()

    def mistakes(self, batch: Batch, first: str, second: str | None) -> list[Mistake]:
        of_any_size = [wrong for wrong in super().mistakes(batch, first, second) if "batch size" not in wrong[0]]
        return [
            *of_any_size,
            (f"two-dimensional {first}", first, {"output": batch.output.unsqueeze(1)}),
            ("a target for each bag and column", second, {"target": batch.target.unsqueeze(1)}),
        ]
