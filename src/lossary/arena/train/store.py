"""The one file that keeps finished units of work. A unit is written whole, at once, or not at all."""

import io
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossary.errors import StoreError

VERSION = 1
Arrays = dict[str, NDArray[Any]]


class Store:
    """Finished units by key: a JSON record and named arrays. Several processes may share the file; each waits ``patience`` seconds
    for another one to let go of it."""

    def __init__(self, path: Path, patience: float = 30.0):
        self.path = path
        with self._explained():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=patience, isolation_level=None)
            found = self._connection.execute("PRAGMA user_version").fetchone()[0]
            if found not in (0, VERSION):
                raise StoreError(
                    f"{path} was written by another version of Lossary (format {found}, this one is {VERSION}); name another place"
                )
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS units (key TEXT PRIMARY KEY, record TEXT NOT NULL, arrays BLOB NOT NULL)"
            )
            self._connection.execute(f"PRAGMA user_version = {VERSION}")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            if isinstance(error, StoreError):
                raise
            raise StoreError(f"{self.path} cannot be used to keep finished work: {error}") from error

    def get(self, key: str) -> tuple[dict[str, Any], Arrays] | None:
        with self._explained():
            row = self._connection.execute("SELECT record, arrays FROM units WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        with np.load(io.BytesIO(row[1]), allow_pickle=False) as arrays:
            return json.loads(row[0]), dict(arrays)

    def put(self, key: str, record: dict[str, Any], arrays: Arrays) -> None:
        blob = io.BytesIO()
        np.savez_compressed(blob, **arrays)  # type: ignore[arg-type]
        with self._explained():
            self._connection.execute(
                "INSERT OR REPLACE INTO units (key, record, arrays) VALUES (?, ?, ?)", (key, json.dumps(record), blob.getvalue())
            )

    def close(self) -> None:
        self._connection.close()
