"""Which rows are for training, validation and test."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import ShuffleSplit, train_test_split

Array = NDArray[Any]
Division = tuple[Array, Array, Array]
DRAWS = 50  # of whole groups; the one whose parts are most like the whole is taken


def divide(target: Array, kind: str, groups: Array | None, seed: int, validation_share: float, test_share: float) -> Division:
    """Row numbers of the training, validation and test part, each in random order; of a ranking, whose groups are its lists, list
    after list."""
    if kind == "retrieval":
        return _disjoint_classes(target, seed, validation_share, test_share)
    if kind == "ranking" and groups is not None:
        return _whole_lists(groups, seed, validation_share, test_share)
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


def shares_of_classes(classes: int) -> tuple[float, float]:
    """How much of a retrieval is for validation and test: a fifth and three tenths of the classes, at least two or three each."""
    least = min(3, classes // 3)
    return max(round(0.2 * classes), least) / classes, max(round(0.3 * classes), least) / classes


def _disjoint_classes(target: Array, seed: int, validation_share: float, test_share: float) -> Division:
    """No class is in two parts. Two rows of each class come first, so that a part may lose its last rows and keep its classes."""
    order = np.random.default_rng(seed)
    classes = order.permutation(np.unique(target))
    test, validation = round(test_share * len(classes)), round(validation_share * len(classes))

    def rows_of(chosen: Array) -> Array:
        rows = order.permutation(np.flatnonzero(np.isin(target, chosen)))
        return rows[np.argsort(_earlier(target[rows]) >= 2, kind="stable")]

    return rows_of(classes[test + validation :]), rows_of(classes[test : test + validation]), rows_of(classes[:test])


def _earlier(values: Array) -> Array:
    """How often the value of each place stood before it."""
    order = np.argsort(values, kind="stable")
    first = np.searchsorted(values[order], values[order])
    counts = np.empty(len(values), dtype=np.int64)
    counts[order] = np.arange(len(values)) - first
    return counts


def _whole_lists(lists: Array, seed: int, validation_share: float, test_share: float) -> Division:
    names = np.unique(lists)
    order = np.random.default_rng(seed).permutation(names)
    test, validation = round(test_share * len(names)), round(validation_share * len(names))
    rows = np.argsort(lists, kind="stable")
    starts, ends = np.searchsorted(lists[rows], names), np.searchsorted(lists[rows], names, side="right")
    span = {name: rows[start:end] for name, start, end in zip(names.tolist(), starts, ends, strict=True)}

    def rows_of(chosen: Array) -> Array:
        return np.concatenate([span[name] for name in chosen.tolist()])

    return rows_of(order[test + validation :]), rows_of(order[test : test + validation]), rows_of(order[:test])


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
