"""Reading tables from files as a stream of record batches, of which no more rows are kept than were asked for."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet
from numpy.typing import NDArray

from lossary.arena.data.sample import SEED
from lossary.errors import DataError

FORMATS = {".csv": "CSV", ".parquet": "PARQUET", ".arrow": "ARROW", ".feather": "FEATHER"}


def read_table(path: Path, max_rows: int, whole: str | None = None) -> tuple[pa.Table, int]:
    """The table, or a uniform random sample of its rows if there are more, and how many rows the file has.

    With ``whole``, the name of a column, rows that are equal there are in the sample together, all but those of one value.
    """
    suffix = path.suffix.lower()
    if not path.is_file():
        raise DataError(f"there is no file {path}")
    if not path.stat().st_size:
        raise DataError(f"{path} cannot be read as {FORMATS[suffix]}: the file is empty")
    try:
        if suffix == ".csv":
            raw, rows = sample_rows(_csv_batches(path), max_rows, whole)
            table = _typed(path, raw)
        else:
            batches = _parquet_batches(path) if suffix == ".parquet" else _arrow_batches(path)
            table, rows = sample_rows(batches, max_rows, whole)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{path} cannot be read as {FORMATS[suffix]}: {reason}") from error
    return table, rows


def sample_rows(batches: Iterable[pa.RecordBatch], max_rows: int, whole: str | None = None) -> tuple[pa.Table, int]:
    """Keep the rows with the smallest of one random number each: a uniform sample in one pass, in the order of the file.

    No more than twice the sample and one batch are in memory at any time.
    """
    generator = np.random.default_rng(SEED)
    kept: list[pa.Table] = []
    keys = np.empty(0)
    rows, bound = 0, np.inf
    for batch in batches:
        table = _plain(pa.Table.from_batches([batch]))
        fresh = generator.random(table.num_rows) if whole not in table.column_names else _numbers_of(table[whole])
        rows += table.num_rows
        if bound < np.inf:
            table, fresh = table.filter(fresh < bound), fresh[fresh < bound]
        kept.append(table)
        keys = np.concatenate([keys, fresh])
        if len(keys) > 2 * max_rows:
            kept, keys = _smallest(kept, keys, max_rows)
            bound = float(keys.max())
    if len(keys) > max_rows:
        kept, keys = _smallest(kept, keys, max_rows)
    return pa.concat_tables(kept), rows


def _numbers_of(values: pa.ChunkedArray) -> NDArray[Any]:
    """A number from 0 to 1 for each value, as good as random and the same wherever the value comes."""
    encoded = values.combine_chunks().dictionary_encode()
    digests = [hashlib.blake2b(repr(value).encode(), digest_size=8).digest() for value in encoded.dictionary.to_pylist()]
    numbers = np.array([int.from_bytes(digest) / 2**64 for digest in digests] or [0.0])
    return np.asarray(numbers[encoded.indices.fill_null(0).to_numpy(zero_copy_only=False)])


def _smallest(kept: list[pa.Table], keys: NDArray[Any], count: int) -> tuple[list[pa.Table], NDArray[Any]]:
    best = np.sort(np.argpartition(keys, count)[:count])
    return [pa.concat_tables(kept).take(best)], keys[best]


def _plain(table: pa.Table) -> pa.Table:
    """Without dictionaries, which may differ from batch to batch, and without views, which few functions take."""
    for place, field in enumerate(table.schema):
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if pa.types.is_string_view(kind):
            kind = pa.string()
        if kind != field.type:
            table = table.set_column(place, field.name, table[place].cast(kind))
    return table


def _csv_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """Every value as the bytes that stand in the file: types are found later, from the whole sample and not the first block."""
    with path.open("rb") as file:
        header = file.readline()
    others = max((b";", b"\t"), key=header.count)
    parse = pyarrow.csv.ParseOptions(
        delimiter=others.decode() if others in header and b"," not in header else ",", newlines_in_values=True
    )
    with pyarrow.csv.open_csv(path, parse_options=parse) as reader:
        names = reader.schema.names
    convert = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.binary()), strings_can_be_null=False)
    with pyarrow.csv.open_csv(path, parse_options=parse, convert_options=convert) as reader:
        yield pa.RecordBatch.from_pylist([], schema=reader.schema)
        yield from reader


def _typed(path: Path, raw: pa.Table) -> pa.Table:
    """Written and read again, so that the types are those of all values kept."""
    for field in raw.schema:
        try:
            raw[field.name].cast(pa.string())
        except pa.ArrowInvalid:
            raise DataError(f"{path}: the column {field.name!r} is not text in UTF-8; save the file in that encoding") from None
        except KeyError:
            pass  # the name stands there twice, which is refused with its own sentence
    buffer = pa.BufferOutputStream()  # no file of Python: an Arrow thread that lets go of one as Python ends aborts the process
    pyarrow.csv.write_csv(raw, buffer)
    parsers = [pyarrow.csv.ISO8601, "%Y/%m/%d", "%d.%m.%Y"]  # forms of a date that can only be read in one way
    options = pyarrow.csv.ConvertOptions(strings_can_be_null=True, timestamp_parsers=parsers)
    parse = pyarrow.csv.ParseOptions(newlines_in_values=True)
    return pyarrow.csv.read_csv(pa.BufferReader(buffer.getvalue()), parse_options=parse, convert_options=options)


def _parquet_batches(path: Path) -> Iterator[pa.RecordBatch]:
    with pyarrow.parquet.ParquetFile(path) as file:
        yield pa.RecordBatch.from_pylist([], schema=file.schema_arrow)
        yield from file.iter_batches()


def _arrow_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """The file format (which Feather is, too) or the stream format."""
    with pa.memory_map(str(path)) as source:
        try:
            file = pyarrow.ipc.open_file(source)
        except pa.ArrowInvalid:
            source.seek(0)
            with pyarrow.ipc.open_stream(source) as reader:
                yield pa.RecordBatch.from_pylist([], schema=reader.schema)
                yield from reader
        else:
            yield pa.RecordBatch.from_pylist([], schema=file.schema)
            for i in range(file.num_record_batches):
                yield file.get_batch(i)
