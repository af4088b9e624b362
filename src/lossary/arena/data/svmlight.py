"""Reading files in SVMlight's format, which learning to rank calls LETOR's: ``relevance qid:3 1:0.5 2:1.2 # a comment``."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_svmlight_file

from lossary.arena.data.sample import choose_lists, choose_rows, picture_bytes
from lossary.errors import DataError

Array = NDArray[Any]
_NUMBER = rb"[-+]?(\d+\.?\d*([eE][-+]?\d+)?|\.\d+([eE][-+]?\d+)?|inf|nan)"
_LINE = re.compile(rb"(%b(\s+qid:\d+)?(\s+\d+:%b)*)?" % (_NUMBER, _NUMBER))
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
        reason = _broken_line(path) or str(error).partition("\n")[0]
        raise DataError(f"{path} cannot be read as lines of SVMlight: {reason}") from error
    rows, columns = sparse.shape
    if not rows:
        raise DataError(f"{path} cannot be read as lines of SVMlight: there is none in it")
    sample = choose_rows(rows, max_rows, picture_bytes((columns,)), max_bytes)
    if 0 < len(queries) < rows:
        raise DataError(
            f"{path}: every line or none must have a qid, as in '2 qid:1 1:0.5', and {rows - len(queries)} of {rows} lack it"
        )
    if not len(queries):
        return Lines(sparse[sample.rows].toarray(), target[sample.rows], None, sample.notes)
    _check_order(path, queries)
    kept = choose_lists(queries, len(sample.rows))
    return Lines(sparse[kept.rows].toarray(), target[kept.rows], queries[kept.rows], kept.notes)


def _broken_line(path: Path) -> str:
    """The first line that is none, as the reader does not say which it was."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not _LINE.fullmatch(line.partition(b"#")[0].strip()):
                shown = line.decode(errors="replace").strip()
                return f"line {number} must look like '2 qid:1 1:0.5 2:0.1', got {shown[:60]!r}"
    return ""


def _check_order(path: Path, queries: Array) -> None:
    """A query that ends and begins again is mostly two of one number, from files that were put together."""
    names, times = np.unique(queries[np.diff(queries, prepend=queries[0] - 1) != 0], return_counts=True)
    if times.max() > 1:
        raise DataError(f"{path}: the rows of qid {names[times.argmax()]} do not stand together; sort the file by qid")
