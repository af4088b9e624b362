"""How much of a large source is read, and what the report says of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SEED = 0  # the same source always gives the same sample, so that finished work can be found again
MAX_ROWS = 200_000
MAX_BYTES = 2**30  # of pixels; each seed has a copy, brought to the scale of its own training part


@dataclass(frozen=True)
class Sample:
    """Which rows of a source to read, ascending, and how the report puts it."""

    rows: NDArray[np.int64]
    notes: tuple[str, ...]


def picture_bytes(shape: Sequence[int]) -> int:
    """What one image takes as the numbers that a network sees."""
    return 4 * math.prod(shape)


def choose_rows(rows: int, max_rows: int, row_bytes: int = 0, max_bytes: int = MAX_BYTES) -> Sample:
    """Everything, or a uniform random sample of the rows that ``max_rows`` and ``max_bytes`` allow."""
    fitting = max(max_bytes // row_bytes, 1) if row_bytes else rows
    kept = min(rows, max_rows, fitting)
    chosen = np.arange(rows) if kept == rows else np.sort(np.random.default_rng(SEED).choice(rows, kept, replace=False))
    budget = f", as many images as {max_bytes / 2**20:,.4g} MiB hold" if fitting < min(rows, max_rows) else ""
    return Sample(chosen, tuple(note + budget for note in sample_note(kept, rows)))


def choose_lists(lists: NDArray[Any], max_rows: int) -> Sample:
    """Everything, or the rows of as many whole lists as ``max_rows`` allow, drawn at random."""
    if len(lists) <= max_rows:
        return Sample(np.arange(len(lists)), ())
    names, codes = np.unique(lists, return_inverse=True)
    lengths = np.bincount(codes)
    order = np.random.default_rng(SEED).permutation(len(names))
    chosen = np.zeros(len(names), dtype=bool)
    chosen[order[np.cumsum(lengths[order]) <= max_rows]] = True
    rows = np.flatnonzero(chosen[codes])
    return Sample(rows, sample_note(len(rows), len(lists)))


def sample_note(kept: int, rows: int) -> tuple[str, ...]:
    return (f"a random sample of {kept} of {rows} rows",) if kept < rows else ()
