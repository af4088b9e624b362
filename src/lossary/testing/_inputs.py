"""Inputs for every family, each from its own seed, so that no check depends on another or on global random state."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Inputs:
    """Makes outputs and targets of one family.

    Dimension 1 of an output has the size of ``classes``, or of ``embedding`` for a loss with classifier weights of its own.
    """

    family: str
    classes: int = 5
    embedding: int | None = None

    @property
    def width(self) -> int:
        """The size of dimension 1 of an output."""
        return self.classes if self.embedding is None else self.embedding

    def shape(self, n: int, space: tuple[int, ...] = ()) -> tuple[int, ...]:
        """The shape of the output for n samples."""
        return (n, *space) if self.family == "bags" else (n, self.width, *space)

    def output(
        self, n: int, *, seed: int = 0, dtype: torch.dtype = torch.float64, space: tuple[int, ...] = (), scale: float = 2.0
    ) -> Tensor:
        """Raw outputs, rounded to the dtype."""
        generator = torch.Generator().manual_seed(1000 + seed)
        # float32 is drawn for big maps, where float64 would take twice as long for digits that a half dtype cannot keep
        drawn = torch.float64 if dtype == torch.float64 else torch.float32
        return (torch.randn(self.shape(n, space), generator=generator, dtype=drawn) * scale).to(dtype)

    def target(
        self, n: int, *, seed: int = 0, dtype: torch.dtype = torch.float64, space: tuple[int, ...] = (), soft: bool = False
    ) -> Tensor:
        """Class indices or probabilities, labels in {0, 1} or [0, 1] (one or more of a row, to rank), means of bags, or values."""
        generator = torch.Generator().manual_seed(2000 + seed)
        shape = (n, self.classes, *space)
        if self.family == "classification":
            if soft:
                return torch.randn(shape, generator=generator, dtype=torch.float64).softmax(1).to(dtype)
            return torch.randint(self.classes, (n, *space), generator=generator)
        if self.family == "multilabel":
            drawn = torch.rand(shape, generator=generator, dtype=torch.float64)
            return (drawn if soft else (drawn < 0.4).double()).to(dtype)
        if self.family == "label_ranking":
            drawn = torch.rand(shape, generator=generator, dtype=torch.float64)
            return (drawn <= drawn.amin(1, keepdim=True).clamp_min(0.4)).to(dtype)
        if self.family == "bags":
            return torch.rand((n + 1) // 2, generator=generator, dtype=torch.float64).to(dtype)
        return (torch.randn(shape, generator=generator, dtype=torch.float64) * 2).to(dtype)

    def per_item(self, output: Tensor) -> tuple[int, ...]:
        """The shape of ``reduction="none"``: a value for each sample, or for each element."""
        by_row = self.family in ("classification", "label_ranking")
        return (output.shape[0], *output.shape[2:]) if by_row else tuple(output.shape)

    def predicted(self, output: Tensor) -> tuple[int, ...]:
        """The shape of what the link makes of an output."""
        return tuple(output.shape) if self.embedding is None else (output.shape[0], self.classes, *output.shape[2:])

    def class_weight(self, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
        """Different positive weights for the classes."""
        return (
            torch.rand(self.classes, generator=torch.Generator().manual_seed(3000 + seed), dtype=torch.float64).add(0.5).to(dtype)
        )

    def one_hot(self, target: Tensor) -> Tensor:
        """Class indices (n, *) as probabilities (n, classes, *)."""
        return torch.nn.functional.one_hot(target, self.classes).movedim(-1, 1).double()

    def wrong(self, margin: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """One sample that is wrong by a margin for each label (right for a negative margin), and its target."""
        if self.family == "classification":
            output = torch.zeros(1, self.classes, dtype=dtype)
            output[0, 1] = margin
            return output, torch.tensor([0])
        if self.family == "multilabel":
            target = (torch.arange(self.classes) % 2 == 0).to(dtype).unsqueeze(0)
            return margin - 2 * margin * target, target
        if self.family == "label_ranking":
            output = torch.zeros(1, self.classes, dtype=dtype)
            output[0, 0], output[0, 1] = -margin, margin
            return output, torch.eye(1, self.classes, dtype=dtype)
        if self.family == "bags":
            return torch.tensor([margin], dtype=dtype), torch.zeros(1, dtype=dtype)
        return torch.tensor([[margin, -margin]], dtype=dtype), torch.zeros(1, 2, dtype=dtype)

    def extremes(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """A batch with every kind of extreme output, at every place."""
        rows = [torch.full((self.width,), size) for size in (0.0, 1e4, -1e4, 100.0, -100.0)]
        for size in (1e4, -1e4, 89.0, -89.0, 30.0, -30.0):
            rows += [torch.eye(self.width)[i] * size for i in range(self.width)]
            rows.append(torch.linspace(-abs(size), abs(size), self.width))
        stacked = torch.stack(rows).to(dtype)
        return stacked.flatten() if self.family == "bags" else stacked
