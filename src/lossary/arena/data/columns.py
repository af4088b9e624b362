"""From the columns of a table to numbers and words, saying what was left out and why."""

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lossary._core.names import suggestion
from lossary.errors import DataError

Array = NDArray[Any]
NEARLY_EVERY = 0.9  # text with a value of its own in more than this share of rows names the row and cannot be learned from
_ID_WORDS = {"id", "uid", "uuid", "guid", "identifier"}
_DATE_PARTS = ("year", "month", "day", "weekday", "hour", "seconds")


@dataclass
class Features:
    """What is found while going through the columns."""

    numbers: dict[str, Array] = field(default_factory=dict)  # float64 with NaN where missing
    words: dict[str, Array] = field(default_factory=dict)  # object with None where missing
    notes: list[str] = field(default_factory=list)


def check_columns(name: str, table: pa.Table, wanted: list[str]) -> None:
    columns = table.column_names
    for column in wanted:
        if column not in columns:
            raise DataError(f"{name} has no column {column!r}{suggestion(column, columns)} (it has {', '.join(columns)})")
    if len(set(columns)) < len(columns):
        twice = sorted({column for column in columns if columns.count(column) > 1})
        raise DataError(f"{name} has the column {twice[0]!r} more than once")


def find_features(name: str, table: pa.Table, skipped: set[str]) -> Features:
    found = Features()
    for column in table.column_names:
        if column not in skipped:
            _add(found, name, column, table[column])
    return found


def _add(found: Features, name: str, column: str, values: pa.ChunkedArray) -> None:
    kind = values.type
    if pa.types.is_nested(kind) or pa.types.is_interval(kind):
        raise DataError(f"{name}: the column {column} holds {kind}, only numbers, text, dates and true/false can be used")
    distinct = 0 if pa.types.is_null(kind) else pc.count_distinct(values, mode="only_valid").as_py()
    if not distinct:
        found.notes.append(f"the column {column} is empty and was left out")
    elif distinct == 1 and not values.null_count:  # with gaps, whether a value is there can still tell something
        found.notes.append(f"the column {column} has the same value in every row and was left out")
    elif pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        _add_date(found, column, values.cast(pa.timestamp("s"), safe=False))
    elif pa.types.is_temporal(kind):
        found.numbers[column] = _seconds(values)
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        if pa.types.is_integer(kind) and distinct == len(values) and _counts_rows(column):
            found.notes.append(f"the column {column or 'without a name'} is a number of the row and was left out")
        else:
            found.numbers[column] = values.cast(pa.float64(), safe=False).to_numpy()  # 64-bit numbers are rounded
    elif pa.types.is_boolean(kind) or distinct <= NEARLY_EVERY * (len(values) - values.null_count):
        found.words[column] = np.array(_text(name, column, values).to_pylist(), dtype=object)
    else:
        found.notes.append(f"the column {column} has {distinct} different texts in {len(values)} rows and was left out")


def _counts_rows(column: str) -> bool:
    """Also what data frames write when they are saved with their index."""
    words = words_in(column)
    return not column or bool(_ID_WORDS & set(words)) or words in (["index"], ["unnamed", "0"])


def _add_date(found: Features, column: str, values: pa.ChunkedArray) -> None:
    seconds = values.cast(pa.int64()).cast(pa.float64(), safe=False)
    parts = (pc.year(values), pc.month(values), pc.day(values), pc.day_of_week(values), pc.hour(values), seconds)
    for part, numbers in zip(_DATE_PARTS, parts, strict=True):
        if pc.count_distinct(numbers, mode="only_valid").as_py() > 1:  # such as the hour of a plain date
            found.numbers[f"{column}.{part}"] = numbers.cast(pa.float64()).to_numpy()


def _seconds(values: pa.ChunkedArray) -> Array:
    """Times of day and durations."""
    unit = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}[str(values.type.unit)]
    whole = pa.int32() if values.type.bit_width == 32 else pa.int64()
    return np.asarray(values.cast(whole).cast(pa.float64(), safe=False).to_numpy() / unit)


def _text(name: str, column: str, values: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        return values.cast(pa.string())
    except pa.ArrowInvalid:
        raise DataError(f"{name}: the column {column!r} is not text in UTF-8; save the file in that encoding") from None


def target_values(name: str, column: str, values: pa.ChunkedArray) -> Array:
    """Numbers, booleans or text, none of them missing."""
    kind = values.type
    if pa.types.is_nested(kind) or pa.types.is_temporal(kind):
        raise DataError(f"{name}: the target {column!r} holds {kind}, only numbers, text and true/false can be predicted")
    if pa.types.is_decimal(kind):
        values = values.cast(pa.float64())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind)):
        return np.array(_text(name, column, values).to_pylist(), dtype=np.str_)
    return np.array(values.to_numpy(zero_copy_only=False)) if not pa.types.is_null(kind) else np.empty(0)


def group_values(name: str, column: str, values: pa.ChunkedArray) -> Array:
    """One number for each value, whatever its type."""
    if pa.types.is_nested(values.type):
        raise DataError(f"{name}: the group {column!r} holds {values.type}, which cannot name a group")
    return np.array(pa.chunked_array([values.combine_chunks()]).dictionary_encode().chunk(0).indices)


def words_in(name: str) -> list[str]:
    """``patientID`` and ``patient_id`` are both patient and id."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]
