"""Does it look as if the same thing were in the training and in the test part?"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossary.arena.data.columns import words_in
from lossary.arena.data.division import divide

Array = NDArray[Any]
GRID = 0.01  # of a standard deviation: values nearer than that count as the same
FEWEST_ROWS, SMALLEST_SHARE = 3, 0.02  # of the test part; below, a warning would cry wolf
_IDS = {"id", "uid", "uuid", "guid", "identifier"}
_THINGS = {"patient", "subject", "user", "group", "customer", "client", "person", "participant", "household", "donor", "speaker"}
_ENDINGS = {*_IDS, "number", "no", "nr", "code", "key", "name"}


def leak_notes(
    target: Array, kind: str, numbers: Array, words: Array, columns: Sequence[str], images: Array | None
) -> tuple[str, ...]:
    """At most one note, on the most obvious sign, measured on a split like those that the comparison makes."""
    train, _, test = divide(target, kind, None, 0, 0.2, 0.2)
    for place, column in enumerate(columns):
        if not _names_a_thing(column):
            continue
        values = _codes(numbers[:, place] if place < numbers.shape[1] else words[:, place - numbers.shape[1]])
        share = np.isin(values[test], values[train]).mean()
        if values.max() >= 4 and share >= SMALLEST_SHARE:  # with fewer values it is a property and no name
            return (
                f"the column {column} looks like the name of a group, and {share:.0%} of the test rows share its value with a"
                f" training row; give it as --group to keep each group on one side",
            )
    shared = _twins(numbers, words, images, train, test)
    if shared >= FEWEST_ROWS and shared >= SMALLEST_SHARE * len(test):
        return (
            f"{shared / len(test):.0%} of the test rows are the same as a training row, or almost; if rows belong together,"
            f" name the column that says so with --group",
        )
    return ()


def _names_a_thing(column: str) -> bool:
    """``patient``, ``user_id``, ``CustomerNo`` or ``id``, but not ``age_group``."""
    words = words_in(column)
    return bool(words) and (words[-1] in _IDS or (words[0] in _THINGS and all(word in _ENDINGS for word in words[1:])))


def _codes(values: Array) -> Array:
    if values.dtype == object:
        values = np.array(["" if value is None else str(value) for value in values])
    return np.unique(values, return_inverse=True)[1]


def _twins(numbers: Array, words: Array, images: Array | None, train: Array, test: Array) -> int:
    """How many test rows have a row of the training part in the same cell of a fine grid, by the hash of the cell."""
    flat = numbers if images is None else images.reshape(len(images), -1)
    codes = np.stack([_codes(words[:, i]) for i in range(words.shape[1])], axis=1) if words.shape[1] else words.astype(np.int64)
    if images is None and _alike_by_chance(flat, codes) > SMALLEST_SHARE / 2:
        return 0
    found = np.zeros(len(test), dtype=bool)
    for shift in (0.0, 0.5):  # two that are almost the same can lie on both sides of a line of one grid
        keys = _keys(flat, codes, shift)
        found |= np.isin(keys[test], keys[train])
    return int(found.sum())


def _alike_by_chance(numbers: Array, codes: Array) -> float:
    """How many twins a row would have if columns were independent: in a table of few coarse columns they mean nothing."""
    expected = float(len(numbers))
    for column in (*numbers.T, *codes.T):
        counts = np.unique(column, return_counts=True)[1]
        expected *= float(np.square(counts / counts.sum()).sum())
        if expected < SMALLEST_SHARE / 100:
            break
    return expected


def _keys(numbers: Array, codes: Array, shift: float, block: int = 4096) -> Array:
    """One 64-bit hash for each row: a sum of whole numbers times odd random ones, which wraps around."""
    factors = np.random.default_rng(0).integers(1, 2**62, numbers.shape[1] + codes.shape[1]) | 1
    center, scale = np.zeros(numbers.shape[1]), np.ones(numbers.shape[1])
    known = ~np.isnan(numbers).all(axis=0)
    center[known], scale[known] = np.nanmean(numbers[:, known], axis=0), np.nanstd(numbers[:, known], axis=0)
    scale[scale == 0] = 1
    keys = np.empty(len(numbers), dtype=np.int64)
    for start in range(0, len(numbers), block):
        rows = slice(start, start + block)
        cells = np.floor((numbers[rows] - center) / (scale * GRID) + shift)
        cells = np.where(np.isnan(cells), 2.0**40, cells).astype(np.int64)
        keys[rows] = np.concatenate([cells, codes[rows]], axis=1) @ factors
    return keys
