"""Finished work is kept whole, by several processes at once, or a sentence says why not."""

import os
import sqlite3
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.processes import run_together

from lossary.arena.train.store import Store
from lossary.errors import StoreError


def test_gives_back_what_it_was_given(tmp_path: Path) -> None:
    store = Store(tmp_path / "deep" / "arena.sqlite")
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.array([True, False]), "nan": np.array([np.nan, np.inf])}
    store.put("key", {"seconds": 1.25, "batched": True}, arrays)
    store.close()
    found = Store(tmp_path / "deep" / "arena.sqlite").get("key")
    assert found is not None
    record, kept = found
    assert record == {"seconds": 1.25, "batched": True}
    for name, value in arrays.items():
        np.testing.assert_array_equal(kept[name], value)
        assert kept[name].dtype == value.dtype


def test_an_unknown_key_is_nothing(tmp_path: Path) -> None:
    assert Store(tmp_path / "arena.sqlite").get("other") is None


def test_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "arena.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match=r"written by another version of Lossary \(format 99, this one is 1\)"):
        Store(path)


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "arena.sqlite"
    path.write_text("this is a letter to my aunt, and long enough to be read as a header " * 20)
    with pytest.raises(StoreError, match="cannot be used to keep finished work: file is not a database"):
        Store(path)


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be used to keep finished work"):
        Store(tmp_path / "file" / "arena.sqlite")


def test_a_file_that_somebody_holds_on_to_says_so(tmp_path: Path) -> None:
    path = tmp_path / "arena.sqlite"
    Store(path).close()
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreError, match="cannot be used to keep finished work: database is locked"):
        Store(path, patience=0.1)
    holder.execute("ROLLBACK")
    holder.close()
    Store(path, patience=0.1).put("key", {}, {})


WRITER = """
import sys, numpy as np
from pathlib import Path
from tests.processes import run_together

from lossary.arena.train.store import Store
store = Store(Path(sys.argv[1]))
for i in range(40):
    store.put(f"{sys.argv[2]}-{i}", {"i": i}, {"x": np.full(2000, i)})
"""


def test_two_processes_share_a_store(tmp_path: Path) -> None:
    path = tmp_path / "arena.sqlite"
    run_together([[sys.executable, "-c", WRITER, path, name] for name in "ab"], os.environ)
    store = Store(path)
    for name in "ab":
        for i in range(40):
            found = store.get(f"{name}-{i}")
            assert found is not None
            assert found[1]["x"].sum() == 2000 * i
