"""From what stands in the target to the task: its kind, encoded values, names of classes, and whether it is imbalanced."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import skew

from lossary.arena.tasks import Kind, Task
from lossary.errors import DataError

Array = NDArray[Any]
Encoded = tuple[Array, tuple[str, ...], Task]
MOST_CLASSES_OF_NUMBERS = 20  # an integer column with more distinct values than this is a quantity, not a label
FEWEST_OF_NUMBERS = 10  # rows of each on average, from which on whole numbers may be meant as classes although they are many
MOST_RELEVANT, MOST_ALLOWED = 30, "at most 30, as its gain is 2^relevance - 1; give grades"
FEWEST_OF_RETRIEVAL = 6  # classes, two for each part
FEWEST_ROWS = 5  # of a class: one for test, one for validation, and some to learn from
RARE_LABEL = 0.1
STRONG_SKEW = 2.0
_FLAGS = {"0": 0.0, "1": 1.0, "false": 0.0, "true": 1.0, "0.0": 0.0, "1.0": 1.0}


def encode(name: str, target_name: str, target: Array, task: str | None, class_names: Sequence[str] | None) -> Encoded:
    """The target as (rows,) int64 classes, (rows,) float64 values, or (rows, labels) float64 zeros and ones."""
    if target.ndim == 2:
        check_several(name, target.shape[1], task)
        return _labels(name, target, class_names)
    if task == "multilabel":
        raise DataError(f"{name}: a multilabel task needs several target columns, got one")
    kind = _kind(target) if task is None else task
    if kind == "regression":
        return _values(name, target_name, target)
    if kind == "ranking":
        return _relevance(name, target_name, target)
    return _classes(name, target_name, target, kind, class_names)


def check_several(name: str, columns: int, task: str | None) -> None:
    if task not in (None, "multilabel"):
        raise DataError(f"{name}: a {task} task takes one target column, got {columns}")


def flags(name: str, label: str, values: Array) -> Array:
    """Zeros and ones of one label."""
    if values.dtype.kind in "biuf":
        found = values.astype(np.float64)
    else:
        found = np.array([_FLAGS.get(str(value).strip().lower(), np.nan) for value in values], dtype=np.float64)
    wrong = ~np.isin(found, (0.0, 1.0))
    if wrong.any():
        raise DataError(
            f"{name}: with several targets each must hold 0 and 1 or true and false, got {values[wrong][0]!s} in {label!r}"
        )
    return found


def _labels(name: str, target: Array, label_names: Sequence[str] | None) -> Encoded:
    labels = tuple(label_names) if label_names else tuple(f"label{i}" for i in range(target.shape[1]))
    if len(labels) != target.shape[1]:
        raise DataError(f"{name}: there are {target.shape[1]} labels and {len(labels)} names for them")
    encoded = np.stack([flags(name, label, target[:, i]) for i, label in enumerate(labels)], axis=1)
    positives = encoded.sum(axis=0)
    for label, count in zip(labels, positives, strict=True):
        for value, rows in (("1", count), ("0", len(encoded) - count)):
            if rows < FEWEST_ROWS:
                raise DataError(f"{name}: {label!r} is {value} in {int(rows)} rows; each label needs at least {FEWEST_ROWS}")
    return encoded, labels, Task("multilabel", len(labels), bool(positives.min() < RARE_LABEL * len(encoded)))


def _values(name: str, target_name: str, target: Array) -> Encoded:
    if target.dtype.kind not in "iufb":
        raise DataError(f"{name}: regression needs numbers in {target_name!r}, got {str(target[0])!r}")
    encoded = target.astype(np.float64)
    finite = np.isfinite(encoded)
    if not finite.all():
        raise DataError(f"{name}: {int((~finite).sum())} values of the target {target_name!r} are not finite numbers")
    if np.ptp(encoded) == 0:
        raise DataError(f"{name}: the target {target_name!r} has the same value in every row")
    # The skewness of an exponential distribution is 2: from there on few rows, far out on one side, decide the mean squared error.
    return encoded, (), Task("regression", imbalanced=bool(abs(skew(encoded)) > STRONG_SKEW))


def _relevance(name: str, target_name: str, target: Array) -> Encoded:
    if target.dtype.kind not in "iufb":
        raise DataError(
            f"{name}: the relevance {target_name!r} of a ranking must be numbers from 0 to {MOST_RELEVANT}, such as 0 for no and"
            f" 1 for yes, got {str(target[0])!r}"
        )
    encoded = target.astype(np.float64)
    for wrong, what in ((~np.isfinite(encoded), "finite"), (encoded < 0, "0 or more"), (encoded > MOST_RELEVANT, MOST_ALLOWED)):
        if wrong.any():
            raise DataError(f"{name}: the relevance {target_name!r} of a ranking must be {what}, got {encoded[wrong][0]:g}")
    return encoded, (), Task("ranking")


def _classes(name: str, target_name: str, target: Array, kind: str, class_names: Sequence[str] | None) -> Encoded:
    values, codes, counts = np.unique(target, return_inverse=True, return_counts=True)
    found = _class_task(name, target_name, values, counts, kind)
    labels = tuple(str(value) for value in values)
    if class_names is not None and values.dtype.kind in "iu" and values.min() >= 0 and values.max() < len(class_names):
        labels = tuple(str(class_names[value]) for value in values)
    return codes.astype(np.int64), labels, found


def _kind(target: Array) -> Kind:
    distinct = np.unique(target)
    whole = target.dtype.kind in "iu" or (target.dtype.kind == "f" and np.array_equal(distinct, np.round(distinct)))
    if target.dtype.kind in "iuf" and not (whole and len(distinct) <= MOST_CLASSES_OF_NUMBERS):
        return "regression"
    return "binary" if len(distinct) == 2 else "multiclass"


def kind_notes(target_name: str, target: Array, task: str | None, kind: Kind) -> tuple[str, ...]:
    """What to say where numbers might as well be classes: nothing in a comparison tells that they were taken as a quantity."""
    if task is not None or kind != "regression":
        return ()
    distinct = np.unique(target)
    if len(target) < FEWEST_OF_NUMBERS * len(distinct) or not np.array_equal(distinct, np.round(distinct)):
        return ()
    return (
        f"the {len(distinct)} whole numbers in {target_name!r} were taken as a quantity; the task multiclass takes them as classes",
    )


def _class_task(name: str, target_name: str, values: Array, counts: Array, kind: str) -> Task:
    if len(values) < 2:
        raise DataError(f"{name}: the target {target_name!r} has one class only, {str(values[0])!r}")
    if kind == "binary" and len(values) != 2:
        raise DataError(f"{name}: a binary task needs two classes in {target_name!r}, got {len(values)}")
    if kind != "retrieval" and len(values) > counts.sum() / 5:
        raise DataError(f"{name}: {target_name!r} has {len(values)} classes, too many for {counts.sum()} rows; is it a regression?")
    if kind == "retrieval":
        if values.dtype.kind == "f" and (parts := values[values != np.round(values)]).size:
            raise DataError(f"{name}: a retrieval needs classes in {target_name!r}, got the quantity {parts[0]:g}")
        return _retrieval_task(name, target_name, counts)
    rarest = int(counts.argmin())
    if counts[rarest] < FEWEST_ROWS:
        raise DataError(
            f"{name}: class {str(values[rarest])!r} has {counts[rarest]} rows; every class needs at least {FEWEST_ROWS}"
        )
    imbalanced = bool(counts.min() < 0.4 * counts.sum() / len(values))  # under two fifths of an equal share
    return Task("binary" if len(values) == 2 else "multiclass", len(values), imbalanced)


def _retrieval_task(name: str, target_name: str, counts: Array) -> Task:
    usable = int((counts > 1).sum())  # a row needs another one of its class to be found
    if usable < FEWEST_OF_RETRIEVAL:
        raise DataError(
            f"{name}: {target_name!r} has {usable} classes of two rows or more; a retrieval needs at least {FEWEST_OF_RETRIEVAL},"
            f" as training, validation and test share none"
        )
    return Task("retrieval", usable)
