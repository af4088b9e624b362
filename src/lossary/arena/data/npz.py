"""Reading chosen rows of the arrays in an NPZ file as a stream, so that the file may be larger than memory."""

import math
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from lossary.errors import DataError

Array = NDArray[Any]
CHUNK = 2**22  # bytes that are decompressed at a time


@dataclass(frozen=True)
class Header:
    """What an array is, known before any of it is read."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    columns_first: bool  # Fortran's order: a whole column lies side by side, not a row


def read_headers(path: Path) -> dict[str, Header]:
    """Every array in the file by its name."""
    if not path.is_file():
        raise DataError(f"there is no file {path}")
    try:
        with zipfile.ZipFile(path) as file:
            found = {}
            for name in file.namelist():
                with file.open(name) as member:
                    found[name.removesuffix(".npy")] = _header(member)
            return found
    except (OSError, EOFError, ValueError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise _unreadable(path, error) from error


def read_rows(path: Path, name: str, rows: Sequence[int] | Array) -> Array:
    """Some rows, given in ascending order, of one array."""
    try:
        with zipfile.ZipFile(path) as file, file.open(f"{name}.npy" if f"{name}.npy" in file.namelist() else name) as member:
            header = _header(member)
            chosen = np.asarray(rows, dtype=np.int64)
            return _columns_first(member, header, chosen) if header.columns_first else _rows_first(member, header, chosen)
    except (OSError, EOFError, ValueError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DataError:
    reason = str(error).partition("\n")[0]
    return DataError(f"{path} cannot be read as NPZ: {reason}")


def _header(member: IO[bytes]) -> Header:
    version = npy.read_magic(member)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"an array is in version {version[0]}.{version[1]} of the format, which holds no plain numbers")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, columns_first, dtype = read(member)
    if dtype.hasobject:
        raise ValueError("an array holds Python objects, which would have to be trusted; save numbers or text")
    return Header(shape, dtype, columns_first and len(shape) > 1)


def _rows_first(member: IO[bytes], header: Header, chosen: Array) -> Array:
    width = header.dtype.itemsize * math.prod(header.shape[1:])
    found = np.empty((len(chosen), *header.shape[1:]), header.dtype)
    step = max(CHUNK // max(width, 1), 1)
    for first in range(0, header.shape[0], step):
        count = min(step, header.shape[0] - first)
        low, high = np.searchsorted(chosen, (first, first + count))
        block = _take(member, (count, *header.shape[1:]), header.dtype)
        found[low:high] = block[chosen[low:high] - first]
    return found


def _columns_first(member: IO[bytes], header: Header, chosen: Array) -> Array:
    rows, columns = header.shape[0], math.prod(header.shape[1:])
    found = np.empty((columns, len(chosen)), header.dtype)
    step = max(CHUNK // max(rows * header.dtype.itemsize, 1), 1)
    for first in range(0, columns, step):
        count = min(step, columns - first)
        found[first : first + count] = _take(member, (count, rows), header.dtype)[:, chosen]
    return found.reshape(*header.shape[:0:-1], len(chosen)).T


def _take(member: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    size = math.prod(shape) * dtype.itemsize
    data = member.read(size)
    if len(data) < size:
        raise EOFError("the file ends before the array does")
    return np.frombuffer(data, dtype, math.prod(shape)).reshape(shape)
