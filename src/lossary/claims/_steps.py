"""What a claim does to one part of the data before anything is trained: noise, few samples, a long tail, lost labels.

A step is a function of (part, generator, task) that returns the changed part. As the first of ``train=`` it changes what is
learned from, as one of ``test=`` what is predicted on; the other parts stay as they were. Every seed draws its own change.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lossary.arena.data.splits import Part
from lossary.arena.tasks import Task
from lossary.errors import InvalidValueError

Array = NDArray[Any]
Step = Callable[[Part, np.random.Generator, Task], Part]


@dataclass(frozen=True)
class LabelNoise:
    """A share of the samples, to the nearest whole number, gets another class, each of the others equally often."""

    share: float

    def __post_init__(self) -> None:
        _check_share("LabelNoise", self.share)

    def __str__(self) -> str:
        return f"{self.share:.0%} of the classes replaced by others"

    def __call__(self, part: Part, generator: np.random.Generator, task: Task) -> Part:
        classes = _classes("LabelNoise", task)
        truth = part.truth.copy()
        chosen = generator.permutation(len(truth))[: round(self.share * len(truth))]
        truth[chosen] = (truth[chosen] + generator.integers(1, classes, len(chosen))) % classes
        return _labelled(part, truth)


@dataclass(frozen=True)
class Few:
    """So many samples, with every class as often as before, as nearly as whole numbers allow."""

    rows: int

    def __str__(self) -> str:
        return f"{self.rows} rows kept"

    def __call__(self, part: Part, generator: np.random.Generator, task: Task) -> Part:
        if not 1 <= self.rows <= len(part.truth):
            raise InvalidValueError(f"Few: rows must be from 1 to the {len(part.truth)} there are, got {self.rows}")
        if part.truth.ndim != 1 or task.kind == "regression":
            return _rows(part, generator.permutation(len(part.truth))[: self.rows])
        # Samples in random order, each with its place within its class as a share: the first ones are spread evenly.
        order = generator.permutation(len(part.truth))
        place = np.empty(len(order))
        for label in np.unique(part.truth):
            members = np.flatnonzero(part.truth[order] == label)
            place[members] = (np.arange(len(members)) + generator.random()) / len(members)
        return _rows(part, order[np.argsort(place, kind="stable")[: self.rows]])


@dataclass(frozen=True)
class LongTail:
    """From ``most`` samples of the first class down to ``least`` of the last, each class the same factor below the one before."""

    most: int
    least: int

    def counts(self, classes: int) -> list[int]:
        return [round(float(count)) for count in np.geomspace(self.most, self.least, classes)]

    def __str__(self) -> str:
        return f"from {self.most} rows of the first class down to {self.least} of the last kept"

    def __call__(self, part: Part, generator: np.random.Generator, task: Task) -> Part:
        kept = []
        for label, count in enumerate(self.counts(_classes("LongTail", task))):
            members = np.flatnonzero(part.truth == label)
            if count > len(members):
                raise InvalidValueError(f"LongTail: class {label} must keep {count} samples and has {len(members)}")
            kept.append(generator.permutation(members)[:count])
        return _rows(part, generator.permutation(np.concatenate(kept)))


@dataclass(frozen=True)
class Positives:
    """Of two classes, all samples of the first (0) and so many of the second (1)."""

    count: int

    def __str__(self) -> str:
        return f"{self.count} positives kept"

    def __call__(self, part: Part, generator: np.random.Generator, task: Task) -> Part:
        positive = np.flatnonzero(part.truth == 1)
        if not 1 <= self.count <= len(positive):
            raise InvalidValueError(f"Positives: count must be from 1 to the {len(positive)} there are, got {self.count}")
        kept = np.concatenate([np.flatnonzero(part.truth == 0), generator.permutation(positive)[: self.count]])
        return _rows(part, generator.permutation(kept))


@dataclass(frozen=True)
class MissingLabels:
    """Of several labels, a share of the ones becomes zeros, as annotators who overlook things leave them."""

    share: float

    def __post_init__(self) -> None:
        _check_share("MissingLabels", self.share)

    def __str__(self) -> str:
        return f"{self.share:.0%} of the positives made negatives"

    def __call__(self, part: Part, generator: np.random.Generator, task: Task) -> Part:
        truth = part.truth.copy()
        ones = np.flatnonzero(truth)
        truth.reshape(-1)[generator.permutation(ones)[: round(self.share * len(ones))]] = 0
        return _labelled(part, truth)


@dataclass(frozen=True)
class InputNoise:
    """Gaussian noise on every feature; features have deviation 1 (images: over all pixels of the training part)."""

    deviation: float

    def __str__(self) -> str:
        return f"noise of deviation {self.deviation:g} added"

    def __call__(self, part: Part, generator: np.random.Generator, task: Task) -> Part:
        noise = torch.from_numpy(generator.normal(0.0, self.deviation, tuple(part.features.shape)).astype(np.float32))
        return replace(part, features=part.features + noise)


def _check_share(name: str, share: float) -> None:
    if not 0 <= share <= 1:
        raise InvalidValueError(f"{name}: share must be a number from 0 to 1, got {share}")


def _classes(name: str, task: Task) -> int:
    if task.kind not in ("binary", "multiclass"):
        raise InvalidValueError(f"{name}: it needs one class for each sample, and this is a {task.kind} task")
    return task.num_classes


def _rows(part: Part, kept: Array) -> Part:
    return Part(part.features[torch.from_numpy(kept)], part.target[torch.from_numpy(kept)], part.truth[kept])


def _labelled(part: Part, truth: Array) -> Part:
    return replace(part, target=torch.from_numpy(truth).to(part.target.dtype), truth=truth)
