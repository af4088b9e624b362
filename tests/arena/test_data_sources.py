"""Every kind of source: files of tables and arrays, folders of images, data sets of PyTorch, and samples of what is too large."""

import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from lossary.arena.data import from_arrays, load, npz
from lossary.arena.data.read import sample_rows
from lossary.arena.data.splits import make_splits
from lossary.errors import DataError, InvalidValueError, MissingPackageError, UnknownNameError


def table(rows: int = 60) -> pa.Table:
    generator = np.random.default_rng(0)
    return pa.table(
        {
            "height": generator.normal(size=rows),
            "city": pa.array([("Rome", "Oslo", None)[i % 3] for i in range(rows)]).dictionary_encode(),
            "sick": [i % 2 == 0 for i in range(rows)],
        }
    )


def test_arrow_feather_and_parquet_hold_the_same_table(tmp_path: Path) -> None:
    made = table()
    pyarrow.parquet.write_table(made, tmp_path / "t.parquet")
    pyarrow.feather.write_feather(made, tmp_path / "t.feather")
    with pa.OSFile(str(tmp_path / "t.arrow"), "wb") as file, pa.ipc.new_stream(file, made.schema) as writer:
        writer.write_table(made, max_chunksize=7)
    found = {load(tmp_path / f"t.{suffix}", "sick").fingerprint for suffix in ("parquet", "feather", "arrow")}
    assert len(found) == 1


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "feather", "npz", "csv"])
@pytest.mark.parametrize("content", [b"", b"\x00\x01\xff not what it says" * 9])
def test_a_file_that_is_not_what_its_name_says(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"wrong.{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        load(path, "y")
    assert str(path) in str(caught.value) or "has no column" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_thread_of_arrow_lets_go_of_a_file_of_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that does so while Python ends, as after a mistake it soon does, aborts the process now and then."""
    read, seen = pyarrow.csv.read_csv, []

    def watched(source: Any, **options: Any) -> pa.Table:
        seen.append(source)
        return read(source, **options)

    monkeypatch.setattr(pyarrow.csv, "read_csv", watched)
    path = tmp_path / "t.csv"
    path.write_text("a,y\n" + "".join(f"{i},{i % 2}\n" for i in range(30)))
    assert load(path, "y").rows == 30
    assert [type(source) for source in seen] == [pa.BufferReader]


def test_a_csv_with_semicolons_and_line_breaks_inside_of_texts(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("note;size;y\n" + "".join(f'"a\n{i % 3}";{i};{i % 2}\n' for i in range(30)))
    data = load(path, "y")
    assert (data.rows, data.columns) == (30, ("size", "note"))


def test_header_only_and_empty_columns(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,y\n")
    with pytest.raises(DataError, match="t has 0 rows with a target"):
        load(tmp_path / "t.csv", "y")


def test_npz_with_features_or_images(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(40, 3)), np.arange(40) % 2
    np.savez(tmp_path / "a.npz", X=x, y=y, patient=np.arange(40) // 4)
    data = load(tmp_path / "a.npz", group="patient")
    assert data.numbers.shape == (40, 3)
    assert data.groups is not None
    assert len(set(data.groups)) == 10
    assert load(tmp_path / "a.npz", "patient", "regression").task.kind == "regression"
    np.savez(tmp_path / "b.npz", features=generator.random((40, 6, 5, 3)), labels=np.array(["cat", "dog"] * 20))
    pictures = load(tmp_path / "b.npz")
    assert pictures.images is not None
    assert pictures.images.shape == (40, 3, 6, 5)
    assert pictures.images.dtype == np.float32
    assert (pictures.numbers.shape, pictures.words.shape, pictures.classes) == ((40, 0), (40, 0), ("cat", "dog"))
    np.savez(tmp_path / "c.npz", x=generator.random((40, 6, 5)), target=y)
    grey = load(tmp_path / "c.npz").images
    assert grey is not None
    assert grey.shape == (40, 1, 6, 5)


def test_npz_mistakes(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", z=np.zeros(3))
    with pytest.raises(DataError, match="has no array of features named features or X or x"):
        load(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", x=np.zeros((30, 2)), y=np.zeros(29))
    with pytest.raises(DataError, match="as many rows as each other"):
        load(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", x=np.array([{}] * 30, dtype=object), y=np.zeros(30))
    with pytest.raises(DataError, match="cannot be read as NPZ"):
        load(tmp_path / "c.npz")
    with pytest.raises(DataError, match="there is no file"):
        load(tmp_path / "d.npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("shape", [(70,), (70, 3), (70, 4, 2), (70, 2, 3, 4)])
@pytest.mark.parametrize("dtype", ["<f8", ">f4", "u1", "<U5", "?"])
def test_chosen_rows_of_an_npz_are_those_of_the_whole_array(
    tmp_path: Path, save: Any, shape: tuple[int, ...], dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(npz, "CHUNK", 100)  # bytes, so that every array comes in many pieces
    values = np.random.default_rng(0).integers(0, 9, shape).astype(dtype)
    save(tmp_path / "a.npz", a=values, b=np.asfortranarray(values))
    headers = npz.read_headers(tmp_path / "a.npz")
    assert {name: header.shape for name, header in headers.items()} == {"a": shape, "b": shape}
    assert headers["b"].columns_first == (len(shape) > 1)
    for rows in ([], [0], [69], [1, 2, 40, 68], range(70)):
        for name in ("a", "b"):
            found = npz.read_rows(tmp_path / "a.npz", name, list(rows))
            assert found.dtype == values.dtype
            np.testing.assert_array_equal(found, values[list(rows)])


@pytest.mark.parametrize("order", ["C", "F"])
def test_an_npz_may_be_larger_than_memory(tmp_path: Path, order: Any) -> None:
    path = tmp_path / "large.npz"
    np.savez_compressed(path, x=np.zeros((400_000, 40), order=order), y=np.arange(400_000) % 2)  # 128 MB
    tracemalloc.start()
    try:
        data = load(path, max_rows=200)
        highest = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert data.notes[0] == "a random sample of 200 of 400000 rows"
    assert highest < 25e6  # a few pieces of 4 MB, and the numbers of the rows to draw from


def test_a_damaged_npz_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.random.default_rng(0).random((400, 20)), y=np.arange(400) % 2)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read as NPZ: Bad CRC-32"):
        load(path)


def test_more_images_than_memory_should_hold_are_sampled_and_it_is_said(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).random((40, 8, 8, 3)).astype(np.float32)
    target = np.arange(40) % 2
    np.savez(tmp_path / "a.npz", x=pictures, y=target)
    budget = 25 * pictures[0].nbytes
    sources: list[Any] = [tmp_path / "a.npz", Items(list(zip(pictures, target, strict=True)))]
    for source in sources:
        data = load(source, max_bytes=budget)
        assert data.rows == 25
        assert data.notes[0] == "a random sample of 25 of 40 rows, as many images as 0.01831 MiB hold"
        assert load(source, max_rows=22, max_bytes=budget).notes[0] == "a random sample of 22 of 40 rows"
        assert load(source, max_bytes=2 * budget).rows == 40
    cats = load(folder(tmp_path / "pets", ("RGB",)), image_size=8, max_bytes=20 * pictures[0].nbytes)
    assert (cats.rows, cats.notes[0]) == (20, "a random sample of 20 of 24 rows, as many images as 0.01465 MiB hold")
    with pytest.raises(InvalidValueError, match="max_bytes must be at least 1, got 0"):
        load(sources[0], max_bytes=0)


def folder(path: Path, modes: tuple[str, ...] = ("L",)) -> Path:
    image = pytest.importorskip("PIL.Image")
    generator = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (path / label).mkdir(parents=True)
        for i in range(12):
            made = image.fromarray(generator.integers(0, 256, (9 + i, 7, 3), dtype=np.uint8))
            made.convert(modes[i % len(modes)]).save(path / label / f"{i}.png")
    return path


@pytest.mark.parametrize(("modes", "channels"), [(("L",), 1), (("L", "RGB"), 3), (("RGBA", "P", "RGB"), 3), (("I;16",), 1)])
def test_a_folder_of_images(tmp_path: Path, modes: tuple[str, ...], channels: int) -> None:
    if modes == ("I;16",):
        image = pytest.importorskip("PIL.Image")
        for label in ("cat", "dog"):
            (tmp_path / "pets" / label).mkdir(parents=True)
            for i in range(12):
                image.fromarray(np.full((8, 8), 40_000 + i, dtype=np.uint16)).save(tmp_path / "pets" / label / f"{i}.png")
        path = tmp_path / "pets"
    else:
        path = folder(tmp_path / "pets", modes)
    data = load(path, image_size=8)
    assert data.images is not None
    assert (data.name, data.classes, data.images.shape) == ("pets", ("cat", "dog"), (24, channels, 8, 8))
    assert 0.2 < data.images.mean() < 0.8


def test_mistakes_with_folders(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no images; a folder of images has one sub-folder for each class"):
        load(tmp_path / "empty")
    path = folder(tmp_path / "pets")
    with pytest.raises(DataError, match="pets has its own target"):
        load(path, "cat")
    with pytest.raises(DataError, match="pets names no groups"):
        load(path, group="cat")
    with pytest.raises(InvalidValueError, match="image_size must be at least 1"):
        load(path, image_size=0)
    assert load(path, max_rows=20).notes[0] == "a random sample of 20 of 24 rows"
    (path / "cat" / "3.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"3\.png cannot be read as an image"):
        load(path)


def test_without_pillow_the_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pets" / "cat").mkdir(parents=True)
    (tmp_path / "pets" / "cat" / "1.png").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "PIL", None)  # as Python marks what cannot be imported
    with pytest.raises(MissingPackageError, match=r"pip install 'lossary\[images\]'"):
        load(tmp_path / "pets")


class Items(Dataset[Any]):
    """Items from a list."""

    def __init__(self, items: list[Any], classes: list[str] | None = None):
        self.items = items
        if classes:
            self.classes = classes

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


def test_data_sets_of_pytorch() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(40, 5, generator=generator)
    data = load(TensorDataset(rows, torch.arange(40) % 2))
    assert (data.name, data.numbers.shape, data.task.kind) == ("TensorDataset", (40, 5), "binary")
    assert load(TensorDataset(rows, torch.eye(2)[torch.arange(40) % 2])).task.kind == "multilabel"
    assert load(TensorDataset(rows, torch.randn(40, generator=generator))).task.kind == "regression"
    pictures = load(TensorDataset(torch.rand(40, 3, 6, 5, generator=generator), torch.arange(40) % 3))
    assert pictures.images is not None
    assert pictures.images.shape == (40, 3, 6, 5)
    named = load(Items([(np.random.default_rng(i).random((6, 5, 3)), i % 2) for i in range(40)], ["cat", "dog"]))
    assert named.images is not None
    assert (named.images.shape, named.classes) == ((40, 3, 6, 5), ("cat", "dog"))
    assert load(TensorDataset(rows, torch.arange(40) % 2), max_rows=30).notes[0] == "a random sample of 30 of 40 rows"


def test_pillow_images_in_a_data_set_are_resized() -> None:
    image = pytest.importorskip("PIL.Image")
    generator = np.random.default_rng(0)
    items = [(image.fromarray(generator.integers(0, 256, (5 + i % 3, 9), dtype=np.uint8)), "ab"[i % 2]) for i in range(24)]
    data = load(Items(items), image_size=6)
    assert data.images is not None
    assert (data.images.shape, data.classes) == ((24, 1, 6, 6), ("a", "b"))


class Endless(IterableDataset[Any]):
    """Items without a number."""

    def __iter__(self) -> Iterator[Any]:
        yield 0, 0


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (Endless(), "Endless: a data set needs a length"),
        (Items([]), "Items: a data set needs a length and items"),
        (Items([1] * 30), r"every item must be a pair \(x, y\), got int at 0"),
        (Items([(np.zeros(2 + i % 2), 0) for i in range(30)]), r"every x must have the same shape, got \(2,\) and \(3,\)"),
        (Items([("text", 0)] * 30), "every x must be numbers"),
        (Items([(np.zeros(2), np.zeros(i % 2 + 2)) for i in range(30)]), "every y must have the same shape"),
        (Items([(np.zeros(2), None)] * 30), "every y must be a number, a text or a row of 0 and 1, got NoneType"),
    ],
)
def test_mistakes_in_data_sets(dataset: Dataset[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(dataset)


def test_a_sample_of_rows_is_uniform_in_order_and_always_the_same() -> None:
    made = pa.table({"i": np.arange(10_000)})
    batches = made.to_batches(max_chunksize=300)
    found, rows = sample_rows(batches, 500)
    values = found["i"].to_numpy()
    assert (len(values), rows) == (500, 10_000)
    assert (np.diff(values) > 0).all()
    assert np.histogram(values, 10, (0, 10_000))[0].min() > 25  # 50 expected, deviation 6.7
    assert sample_rows(batches, 500)[0].equals(found)
    assert sample_rows(made.to_batches(), 500)[0].equals(found)  # how the rows come in batches does not matter
    assert sample_rows(batches, 10_000)[0].equals(made)


@pytest.mark.parametrize("suffix", ["csv", "parquet", "npz"])
def test_large_files_are_sampled(tmp_path: Path, suffix: str) -> None:
    path, rows = tmp_path / f"t.{suffix}", 3000
    x, y = np.random.default_rng(0).normal(size=rows), np.arange(rows) % 2
    if suffix == "csv":
        path.write_text("x,y\n" + "".join(f"{a},{b}\n" for a, b in zip(x, y, strict=True)))
    elif suffix == "parquet":
        pyarrow.parquet.write_table(pa.table({"x": x, "y": y}), path, row_group_size=100)
    else:
        np.savez(path, x=x[:, None], y=y)
    data = load(path, "y", max_rows=200)
    assert data.rows == 200
    assert data.notes == ("a random sample of 200 of 3000 rows",)
    assert load(path, "y", max_rows=200).fingerprint == data.fingerprint
    assert load(path, "y").rows == rows


def test_memory_stays_bounded_while_a_csv_is_sampled(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("text,y\n" + ("x" * 200 + ",1\n") * 400_000)
    highest = 0

    def watched() -> Iterator[pa.RecordBatch]:
        from lossary.arena.data.read import _csv_batches

        nonlocal highest
        for batch in _csv_batches(path):
            highest = max(highest, pa.total_allocated_bytes() - before)
            yield batch

    before = pa.total_allocated_bytes()
    assert sample_rows(watched(), 100)[1] == 400_000
    assert highest < path.stat().st_size


def test_the_types_of_a_csv_are_those_of_all_its_values(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,y\n" + "".join(f"{i},{i % 2}\n" for i in range(200_000)) + "0.5,1\n")  # a whole block of whole numbers first
    assert load(path, "y", max_rows=300_000).columns == ("a",)


def test_unknown_sources_and_limits() -> None:
    with pytest.raises(UnknownNameError, match=r"there is no data set named 'linnerud'.*any folder of images"):
        load("linnerud")
    with pytest.raises(InvalidValueError, match="max_rows must be at least 20, got 5"):
        load("digits", max_rows=5)
    with pytest.raises(DataError, match="digits names no groups"):
        load("digits", group="patient")


def test_images_are_normalised_by_the_training_part() -> None:
    generator = np.random.default_rng(0)
    pictures = generator.normal(size=(60, 8, 6, 3)) * np.array([1, 5, 0.1]) + np.array([0, 100, -3])
    split = make_splits(from_arrays("made", pictures, np.arange(60) % 2), (0,), 0.2, 0.2)[0]
    assert (split.shape, split.width) == ((3, 8, 6), 3)
    assert split.train.features.shape == (36, 3, 8, 6)
    assert torch.allclose(split.train.features.mean((0, 2, 3)), torch.zeros(3), atol=1e-4)
    assert torch.allclose(split.train.features.std((0, 2, 3)), torch.ones(3), atol=1e-2)


def test_digits_stays_a_table() -> None:
    data = load("digits")
    assert data.images is None
    assert make_splits(data, (0,), 0.2, 0.2)[0].shape == (64,)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.full((30, 4, 4), np.nan), "images must be finite"),
        (np.zeros((30, 0, 4)), "images must have a height and a width"),
        (np.full((30, 4, 4), "a"), "features must be numbers"),
        (np.full((30, 2), {}), "features must be numbers; text goes into words"),
    ],
)
def test_mistakes_in_arrays(features: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        from_arrays("made", features, np.arange(30) % 2)


def test_none_and_infinity_are_missing_numbers() -> None:
    features = np.array([[None, 1.0], [np.inf, 2.0]] * 15, dtype=object)
    assert np.isnan(from_arrays("made", features, np.arange(30) % 2).numbers[:, 0]).all()
