"""Which rows are for training, validation and test."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import ShuffleSplit, train_test_split

Array = NDArray[Any]
Division = tuple[Array, Array, Array]
DRAWS = 50  # of whole groups; the one whose parts are most like the whole is taken


def divide(target: Array, kind: str, groups: Array | None, seed: int, validation_share: float, test_share: float) -> Division:
    """Row numbers of the training, validation and test part, each in random order."""
    share = validation_share / (1 - test_share)
    if groups is None:
        strata = _strata(target, kind)
        rest, test = train_test_split(np.arange(len(target)), test_size=test_share, random_state=seed, stratify=strata)
        rest_strata = None if strata is None else strata[rest]
        train, validation = train_test_split(rest, test_size=share, random_state=seed, stratify=rest_strata)
        return train, validation, test
    alike = _strata(target, kind)
    if alike is None:  # quarters of the values stand for the distribution of a regression target
        alike = np.searchsorted(np.quantile(target, (0.25, 0.5, 0.75)), target)
    rest, test = _whole_groups(alike, groups, seed, test_share)
    train, validation = _whole_groups(alike[rest], groups[rest], seed, share)
    order = np.random.default_rng(seed)
    return order.permutation(rest[train]), order.permutation(rest[validation]), order.permutation(test)


def _strata(target: Array, kind: str) -> Array | None:
    """What every part should have the same share of: each class, or of several labels the rarest."""
    if kind == "regression":
        return None
    if target.ndim == 2:
        positives = target.mean(axis=0)
        return target[:, np.minimum(positives, 1 - positives).argmin()].astype(np.int64)
    return target


def _whole_groups(strata: Array, groups: Array, seed: int, share: float) -> tuple[Array, Array]:
    """Groups differ in size and in what they hold, so one random draw of them can be far from the share that was asked for."""
    names, members = np.unique(groups, return_inverse=True)
    _, codes = np.unique(strata, return_inverse=True)
    counts = np.bincount(codes)

    def rows_of(chosen: Array) -> Array:
        there = np.zeros(len(names), dtype=bool)
        there[chosen] = True
        return there[members]

    def distance(chosen: Array) -> float:
        return float(np.abs(np.bincount(codes[rows_of(chosen)], minlength=len(counts)) / counts - share).mean())

    draws = ShuffleSplit(n_splits=DRAWS, test_size=share, random_state=seed).split(names)
    held = rows_of(min((draw for _, draw in draws), key=distance))
    return np.flatnonzero(~held), np.flatnonzero(held)
