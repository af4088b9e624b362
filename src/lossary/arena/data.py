"""Real data for a comparison: scikit-learn's own sets, CSV and Parquet files, and arrays."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray
from sklearn import datasets

from lossary._registry import suggestion
from lossary.arena.tasks import KINDS, Kind, Task
from lossary.errors import DataError, UnknownNameError

Array = NDArray[Any]
BUILT_IN = {
    "digits": datasets.load_digits,
    "breast_cancer": datasets.load_breast_cancer,
    "wine": datasets.load_wine,
    "iris": datasets.load_iris,
    "diabetes": datasets.load_diabetes,
}
MOST_CLASSES_OF_NUMBERS = 20  # an integer column with more distinct values than this is a quantity, not a label


@dataclass(frozen=True)
class Data:
    """A table ready to be split: numbers (with NaN where missing), words (with None), and the encoded target."""

    name: str
    numbers: Array  # (rows, numeric columns) float64
    words: Array  # (rows, other columns) object
    columns: tuple[str, ...]
    target: Array  # (rows,) int64 classes or float64 values
    target_name: str
    classes: tuple[str, ...]
    task: Task
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        return len(self.target)

    @property
    def fingerprint(self) -> str:
        """Changes when any value that training can see changes."""
        digest = hashlib.sha256()
        digest.update(np.ascontiguousarray(self.numbers).tobytes())
        digest.update("\x1f".join(repr(word) for word in self.words.ravel()).encode())
        digest.update(np.ascontiguousarray(self.target).tobytes())
        digest.update(repr((self.columns, self.target_name, self.classes, self.task)).encode())
        return digest.hexdigest()[:16]


def load(source: str | Path, target: str | None = None, task: str | None = None) -> Data:
    """Read a data set by name or path; ``target`` names the column to predict in a file."""
    if task is not None and task not in KINDS:
        raise UnknownNameError(f"there is no task {task!r}{suggestion(task, KINDS)} (there are {', '.join(KINDS)})")
    name = str(source)
    if name in BUILT_IN:
        if target is not None:
            raise DataError(f"{name} has its own target, so --target cannot be given")
        bunch = BUILT_IN[name]()
        return from_arrays(name, bunch.data, bunch.target, columns=bunch.feature_names, task=task)
    path = Path(source)
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise UnknownNameError(
            f"there is no data set named {name!r}{suggestion(name, BUILT_IN)}"
            f" (there are {', '.join(BUILT_IN)}, and any .csv or .parquet file with --target)"
        )
    return _from_table(path.stem, _read(path), target, task)


def _read(path: Path) -> pa.Table:
    if not path.is_file():
        raise DataError(f"there is no file {path}")
    try:
        if path.suffix.lower() == ".csv":
            table = pyarrow.csv.read_csv(path, convert_options=pyarrow.csv.ConvertOptions(strings_can_be_null=True))
        else:
            table = pyarrow.parquet.read_table(path)
        not_text = [field.name for field in table.schema if pa.types.is_binary(field.type)]
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{path} cannot be read as {path.suffix[1:].upper()}: {reason}") from error
    if not_text:
        raise DataError(f"{path}: the column {not_text[0]!r} is not text in UTF-8; save the file in that encoding")
    return table


def _from_table(name: str, table: pa.Table, target: str | None, task: str | None) -> Data:
    columns = table.column_names
    if target is None:
        raise DataError(f"--target must name the column of {name} to predict, one of {', '.join(columns)}")
    if target not in columns:
        raise DataError(f"{name} has no column {target!r}{suggestion(target, columns)} (it has {', '.join(columns)})")
    if len(set(columns)) < len(columns):
        twice = sorted({column for column in columns if columns.count(column) > 1})
        raise DataError(f"{name} has the column {twice[0]!r} more than once")
    notes = []
    known = pc.is_valid(table[target])
    missing = table.num_rows - int(pc.sum(known).as_py() or 0)
    if missing:
        table = table.filter(known)
        notes.append(f"{missing} rows without a target were left out")
    numbers, words, number_names, word_names = [], [], [], []
    for column in columns:
        if column == target:
            continue
        values = table[column]
        if pa.types.is_temporal(values.type):
            values = values.cast(pa.timestamp("s")).cast(pa.int64())
        if pa.types.is_integer(values.type) or pa.types.is_floating(values.type) or pa.types.is_decimal(values.type):
            numbers.append(values.cast(pa.float64()).to_numpy())
            number_names.append(column)
        elif pa.types.is_null(values.type):
            notes.append(f"the column {column} is empty and was left out")
        elif pa.types.is_nested(values.type):
            raise DataError(
                f"{name}: the column {column} holds {values.type}, only numbers, text, dates and true/false can be used"
            )
        else:
            words.append(np.array(values.cast(pa.string()).to_pylist(), dtype=object))
            word_names.append(column)
    return from_arrays(
        name,
        np.stack(numbers, 1) if numbers else np.empty((table.num_rows, 0)),
        np.array(table[target].to_pylist()),
        words=np.stack(words, 1) if words else None,
        columns=[*number_names, *word_names],
        target_name=target,
        task=task,
        notes=tuple(notes),
    )


def from_arrays(
    name: str,
    numbers: Array,
    target: Array,
    *,
    words: Array | None = None,
    columns: Sequence[str] | None = None,
    target_name: str = "target",
    task: str | None = None,
    notes: tuple[str, ...] = (),
) -> Data:
    """Data from arrays in memory: features (rows, columns) and a target (rows,)."""
    numbers = np.asarray(numbers, dtype=np.float64)
    target = np.asarray(target)
    if numbers.ndim != 2 or target.ndim != 1 or len(numbers) != len(target):
        raise DataError(f"{name}: features must be (rows, columns) and the target (rows,), got {numbers.shape} and {target.shape}")
    if len(target) < 20:
        raise DataError(f"{name} has {len(target)} rows with a target; a comparison needs at least 20")
    words = np.empty((len(target), 0), dtype=object) if words is None else words
    if numbers.shape[1] + words.shape[1] == 0:
        raise DataError(f"{name} has no column besides the target {target_name!r}")
    numbers = np.where(np.isfinite(numbers), numbers, np.nan)
    kind = _kind(target) if task is None else task
    labels: tuple[str, ...] = ()
    encoded: Array
    if kind == "regression":
        if target.dtype.kind not in "iufb":
            raise DataError(f"{name}: regression needs numbers in {target_name!r}, got {target[0]!r}")
        encoded = target.astype(np.float64)
        finite = np.isfinite(encoded)
        if not finite.all():
            raise DataError(f"{name}: {int((~finite).sum())} values of the target {target_name!r} are not finite numbers")
        if np.ptp(encoded) == 0:
            raise DataError(f"{name}: the target {target_name!r} has the same value in every row")
        found = Task("regression")
    else:
        values, codes, counts = np.unique(target, return_inverse=True, return_counts=True)
        found = _class_task(name, target_name, values, counts, kind)
        labels = tuple(str(value) for value in values)
        encoded = codes.astype(np.int64)
    names = [f"x{i}" for i in range(numbers.shape[1] + words.shape[1])] if columns is None else columns
    return Data(name, numbers, words, tuple(names), encoded, target_name, labels, found, notes)


def _kind(target: Array) -> Kind:
    distinct = np.unique(target)
    whole = target.dtype.kind in "iu" or (target.dtype.kind == "f" and np.array_equal(distinct, np.round(distinct)))
    if target.dtype.kind in "iuf" and not (whole and len(distinct) <= MOST_CLASSES_OF_NUMBERS):
        return "regression"
    return "binary" if len(distinct) == 2 else "multiclass"


def _class_task(name: str, target_name: str, values: Array, counts: Array, kind: str) -> Task:
    if len(values) < 2:
        raise DataError(f"{name}: the target {target_name!r} has one class only, {str(values[0])!r}")
    if kind == "binary" and len(values) != 2:
        raise DataError(f"{name}: a binary task needs two classes in {target_name!r}, got {len(values)}")
    if len(values) > len(counts.repeat(counts)) / 5:
        raise DataError(f"{name}: {target_name!r} has {len(values)} classes, too many for {counts.sum()} rows; is it a regression?")
    rarest = int(counts.argmin())
    if counts[rarest] < 5:
        raise DataError(f"{name}: class {str(values[rarest])!r} has {counts[rarest]} rows; every class needs at least 5")
    imbalanced = bool(counts.min() < 0.4 * counts.sum() / len(values))  # under two fifths of an equal share
    return Task("binary" if len(values) == 2 else "multiclass", len(values), imbalanced)
