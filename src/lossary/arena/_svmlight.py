"""Reading files in SVMlight's format, which learning to rank calls LETOR's: ``relevance qid:3 1:0.5 2:1.2 # a comment``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_svmlight_file

from lossary.arena._sample import choose_rows, picture_bytes, sample_note
from lossary.errors import DataError

Array = NDArray[Any]
SUFFIXES = (".svm", ".svmlight", ".libsvm", ".letor", ".txt")


@dataclass(frozen=True)
class Lines:
    """What such a file holds; ``queries`` is None where no line has a qid."""

    features: Array  # (rows, columns) float64
    target: Array  # (rows,)
    queries: Array | None  # (rows,) int64
    notes: tuple[str, ...]


def read_svmlight(path: Path, max_rows: int, max_bytes: int) -> Lines:
    """The file, or a random sample of its rows, or of its queries with all their rows."""
    if not path.is_file():
        raise DataError(f"there is no file {path}")
    try:
        sparse, target, queries = load_svmlight_file(str(path), query_id=True)
    except (ValueError, OSError, UnicodeDecodeError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{path} cannot be read as lines of SVMlight: {reason}") from error
    rows, columns = sparse.shape
    sample = choose_rows(rows, max_rows, picture_bytes((columns,)), max_bytes)
    if len(queries) != rows:
        kept, notes, queries = sample.rows, sample.notes, None
    else:
        kept = _whole_queries(path, queries, len(sample.rows))
        notes, queries = sample_note(len(kept), rows), queries[kept]
    return Lines(sparse[kept].toarray(), target[kept], queries, notes)


def _whole_queries(path: Path, queries: Array, most: int) -> Array:
    starts = np.flatnonzero(np.diff(queries, prepend=queries[0] - 1))
    names = queries[starts]
    again = np.flatnonzero(np.unique(names, return_counts=True)[1] > 1)
    if len(again):
        raise DataError(f"{path}: the rows of qid {np.unique(names)[again[0]]} do not stand together; sort the file by qid")
    if most >= len(queries):
        return np.arange(len(queries))
    lengths = np.diff(starts, append=len(queries))
    order = np.random.default_rng(0).permutation(len(names))
    fitting = order[np.cumsum(lengths[order]) <= most]
    return np.flatnonzero(np.isin(queries, names[fitting]))
