"""Where the data of an experiment come from: a real data set that all seeds share, or data made afresh for each seed."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lossary.arena.data.dataset import Data, from_arrays, load
from lossary.arena.data.splits import Split, make_splits
from lossary.errors import InvalidValueError

VALIDATION_SHARE, TEST_SHARE = 0.2, 0.2  # as in a comparison
Prepare = Callable[[Data], Data]


@dataclass(frozen=True)
class Real:
    """One of the built-in data sets, the same for every seed; each seed divides it in another way.

    The divisions overlap, and the intervals are corrected for it: of two seeds, a share ``TEST_SHARE`` of the test rows is expected
    to be the same, which is Nadeau and Bengio's correction with the ratio share / (1 - share).
    """

    name: str
    prepare: tuple[Prepare, ...] = ()

    @property
    def ratio(self) -> float:
        return TEST_SHARE / (1 - TEST_SHARE)

    @property
    def data(self) -> Data:
        return _prepared(self.name, self.prepare)

    @property
    def described(self) -> str:
        return self.data.name

    def fingerprint(self, seeds: int) -> str:
        return self.data.fingerprint

    def splits(self, seeds: int) -> list[Split]:
        return make_splits(self.data, tuple(range(seeds)), VALIDATION_SHARE, TEST_SHARE)


@functools.cache
def _prepared(name: str, prepare: tuple[Prepare, ...]) -> Data:
    data = load(name)
    for step in prepare:
        data = step(data)
    return data


@dataclass(frozen=True)
class Generated:
    """Data that a function makes from a seed, so that seeds are independent of each other."""

    make: Callable[[int], Data]
    ratio = 0.0

    @property
    def data(self) -> Data:
        """Of the first seed, for what all seeds have in common."""
        return _made(self.make, 0)

    @property
    def described(self) -> str:
        return f"{self.data.name} (generated for each seed)"

    def fingerprint(self, seeds: int) -> str:
        return " ".join(_made(self.make, seed).fingerprint for seed in range(seeds))

    def splits(self, seeds: int) -> list[Split]:
        return [make_splits(_made(self.make, seed), (seed,), VALIDATION_SHARE, TEST_SHARE)[0] for seed in range(seeds)]


@functools.lru_cache(maxsize=64)
def _made(make: Callable[[int], Data], seed: int) -> Data:
    return make(seed)


def pixels(data: Data) -> Data:
    """Square images given as columns become images, whose pixels keep their common scale."""
    side = round(data.numbers.shape[1] ** 0.5)
    return from_arrays(data.name, data.numbers.reshape(-1, side, side), data.target, class_names=data.classes)


def against_rest(label: int) -> Prepare:
    """Two classes: everything else (0) and one class (1)."""

    def prepare(data: Data) -> Data:
        name = f"{data.name}, {data.classes[label]} against the rest"
        features = data.numbers if data.images is None else np.moveaxis(data.images, 1, 3)
        return from_arrays(name, features, (data.target == label).astype(np.int64), class_names=("rest", data.classes[label]))

    return _named(prepare, f"against_rest({label})")


def only(*labels: int) -> Prepare:
    """Some of the classes, numbered anew in the order given."""

    def prepare(data: Data) -> Data:
        if data.images is None and data.words.shape[1]:
            raise InvalidValueError("only: it takes tables of numbers and images, and this table has text")
        kept = np.isin(data.target, labels)
        names = tuple(data.classes[label] for label in labels)
        target = np.array([labels.index(label) for label in data.target[kept]])
        features = data.numbers[kept] if data.images is None else np.moveaxis(data.images[kept], 1, 3)
        return from_arrays(f"{data.name}, {', '.join(names)}", features, target, class_names=names)

    return _named(prepare, f"only{labels}")


def _named(prepare: Prepare, name: str) -> Prepare:
    prepare.__name__ = name
    return prepare


def label_rows(seed: int, *, rows: int, labels: int, each: int, features: int = 20, noise: float = 1.0) -> Data:
    """Several labels for each row: features (rows, features) are the sum of the directions of its labels, and noise.

    Every row has ``each`` labels, drawn without repetition; label k is drawn in proportion to 1 / (k + 1), so that most are rare.
    """
    generator = np.random.default_rng(seed)
    directions = generator.normal(size=(labels, features))
    popularity = 1.0 / np.arange(1, labels + 1)
    # Gumbel noise on the logarithm of the weights: its largest entries are draws without repetition.
    keys = np.log(popularity) + generator.gumbel(size=(rows, labels))
    target = np.zeros((rows, labels))
    np.put_along_axis(target, np.argsort(-keys, axis=1)[:, :each], 1.0, axis=1)
    values = target @ directions + generator.normal(0.0, noise * each**0.5, (rows, features))
    return from_arrays(f"rows with {each} of {labels} labels", values, target, task="multilabel")


def split_of(source: Real | Generated, seed: int, seeds: int) -> Split:
    """One seed's split, for experiments that train by a loop of their own; ``seeds`` is how many the experiment has."""
    if isinstance(source, Generated):
        return make_splits(_made(source.make, seed), (seed,), VALIDATION_SHARE, TEST_SHARE)[0]
    return _splits(source, seeds)[seed]


@functools.cache
def _splits(source: Real, seeds: int) -> list[Split]:
    return source.splits(seeds)
