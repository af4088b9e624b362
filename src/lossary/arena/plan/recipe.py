"""How every run is trained, whatever its objective: for how long, at what rate, in which batches."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lossary.arena.data.splits import Split

SHUFFLES = 16  # in an epoch of the rows of a class, which is enough for one that has few and comes often
CHECKPOINTS = 12  # how often validation looks at a run that is not to be stopped early


@dataclass(frozen=True)
class Recipe:
    """How every run is trained, whatever its objective: AdamW whose rate falls to zero along a cosine.

    With ``patience`` a run ends when so many epochs brought nothing better on validation data, and keeps the weights of its
    best epoch; with 0 it trains to the end and keeps the last.
    """

    epochs: int
    batch_size: int
    weight_decay: float = 0.01
    patience: int = 0
    per_class: int = 0  # samples of each class that is in a batch; 0 where batches are drawn whatever the class

    def batches(self, split: Split, epoch: int) -> Tensor:
        """Row numbers (batches, batch_size) of one epoch."""
        if self.per_class:
            return balanced_order(split.seed, epoch, split.train.target, self.batch_size, self.per_class)
        return batch_order(split.seed, epoch, len(split.train.target), self.batch_size)

    def rate_factor(self, step: int, steps: int) -> float:
        return 0.5 * (1 + math.cos(math.pi * step / steps))

    def looks_at(self, epoch: int) -> bool:
        """Whether validation looks at the runs after this epoch, counted from 1."""
        every = 1 if self.patience else math.ceil(self.epochs / CHECKPOINTS)
        return epoch % every == 0 or epoch == self.epochs


def batch_order(seed: int, epoch: int, rows: int, batch_size: int) -> Tensor:
    """The batches of one epoch (batches, batch_size); a last incomplete one is left out."""
    generator = torch.Generator().manual_seed(1_000_003 * (seed + 1) + epoch)
    kept = rows // batch_size * batch_size
    return torch.randperm(rows, generator=generator)[:kept].view(-1, batch_size)


def balanced_order(seed: int, epoch: int, target: Tensor, batch_size: int, per_class: int) -> Tensor:
    """Batches (batches, batch_size) of different classes, the same number of rows of each; target holds numbers from 0.

    Classes come in random order, each as often as another; the rows of a class too, about each of them once before one comes
    again, and only in a class of fewer than ``per_class`` rows is one twice in a batch.
    """
    generator = torch.Generator().manual_seed(1_000_003 * (seed + 1) + epoch)
    steps, sizes = len(target) // batch_size, torch.bincount(target)
    chosen = torch.rand(steps, len(sizes), generator=generator).argsort(1)[:, : batch_size // per_class].flatten()
    # A class that is chosen for the n-th time gives its n-th handful of rows; when it has no more, its rows are shuffled again.
    order = chosen.argsort(stable=True)
    nth = torch.empty_like(chosen)
    nth[order] = torch.arange(len(chosen)) - torch.searchsorted(chosen[order], chosen[order])
    handfuls = (sizes[chosen] // per_class).clamp_min(1)
    shuffle = nth // handfuls % SHUFFLES
    keys = torch.rand(int(shuffle.max()) + 1, len(target), generator=generator, dtype=torch.float64)
    shuffled = (target + keys).argsort(1)  # (shuffles, rows), class after class
    place = (nth % handfuls * per_class).unsqueeze(1) + torch.arange(per_class)
    first = sizes.cumsum(0) - sizes
    rows = shuffled[shuffle.unsqueeze(1), first[chosen].unsqueeze(1) + place % sizes[chosen].unsqueeze(1)]
    return rows.view(steps, -1)
