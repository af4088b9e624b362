"""Reading data: what is understood, and what is refused in one sentence."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from sklearn.model_selection import train_test_split

from lossary.arena.data.dataset import from_arrays, load
from lossary.arena.data.splits import make_splits
from lossary.errors import DataError, UnknownNameError


@pytest.mark.parametrize(
    ("name", "rows", "kind", "classes"),
    [
        ("digits", 1797, "multiclass", 10),
        ("breast_cancer", 569, "binary", 2),
        ("wine", 178, "multiclass", 3),
        ("diabetes", 442, "regression", 0),
    ],
)
def test_built_in_sets(name: str, rows: int, kind: str, classes: int) -> None:
    data = load(name)
    assert (data.rows, data.task.kind, data.task.num_classes) == (rows, kind, classes)


def people(path: Path) -> Path:
    generator = np.random.default_rng(0)
    lines = ["age,city,member,since,empty,churn"]
    for i in range(60):
        age = "" if i % 10 == 0 else str(generator.integers(18, 80))
        city = "" if i % 15 == 0 else ("Rome", "Oslo", "Lima")[i % 3]
        lines.append(f"{age},{city},{i % 2 == 0},2024-01-{i % 28 + 1:02d},,{'yes' if i % 3 else 'no'}")
    path.write_text("\n".join(lines))
    return path


def test_a_csv_of_mixed_columns_with_gaps(tmp_path: Path) -> None:
    data = load(people(tmp_path / "people.csv"), target="churn")
    assert data.classes == ("no", "yes")
    assert data.columns == ("age", "since.day", "since.weekday", "since.seconds", "city", "member")
    assert data.words.shape == (60, 2)  # city and member
    assert data.notes == ("the column empty is empty and was left out",)
    split = make_splits(data, (0,), 0.2, 0.2)[0]
    assert split.train.features.isfinite().all()
    assert split.test.features.isfinite().all()


def test_parquet_gives_the_same(tmp_path: Path) -> None:
    csv = load(people(tmp_path / "people.csv"), target="churn")
    pyarrow.parquet.write_table(
        pa.csv.read_csv(tmp_path / "people.csv", convert_options=pa.csv.ConvertOptions(strings_can_be_null=True)),
        tmp_path / "people.parquet",
    )
    assert load(tmp_path / "people.parquet", target="churn").fingerprint == csv.fingerprint


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        ("", "y", "cannot be read as CSV"),
        ("a,y\n1,2\n1,2,3\n", "y", "cannot be read as CSV"),
        ("a,b\n" + "1,2\n" * 30, "y", r"has no column 'y' \(it has a, b\)"),
        ("a,churn\n" + "1,2\n" * 30, "chrun", "did you mean 'churn'"),
        ("a,y\n" + "1,x\n" * 30, "y", "has one class only, 'x'"),
        ("a,y\n" + "1,x\n2,z\n" * 4, "y", "8 rows with a target; a comparison needs at least 20"),
        ("y\n" + "1\n2\n" * 30, "y", "no column besides the target"),
        ("a,y\n" + "".join(f"{i},{'x' if i else 'rare'}\n" for i in range(30)), "y", "class 'rare' has 1 rows"),
        ("a,y\n" + "".join(f"{i},name{i}\n" for i in range(40)), "y", "too many for 40 rows"),
        ("a,a,y\n" + "1,2,3\n" * 30, "y", "has the column 'a' more than once"),
    ],
)
def test_bad_files_get_one_clear_sentence(tmp_path: Path, text: str, target: str, message: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        load(path, target=target)
    assert "\n" not in str(caught.value)


def test_a_file_without_a_named_target_lists_its_columns(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--target must name the column of people to predict, one of age, city"):
        load(people(tmp_path / "people.csv"))


def test_other_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'digits'"):
        load("digit")
    with pytest.raises(DataError, match="there is no file"):
        load(tmp_path / "nothing.csv", target="y")
    with pytest.raises(UnknownNameError, match="there is no task 'regresion'; did you mean 'regression'"):
        load("wine", task="regresion")
    (tmp_path / "latin.csv").write_bytes("naïve,y\n".encode("latin-1") + b"caf\xe9,1\n" * 30)
    with pytest.raises(DataError, match="cannot be read as CSV"):
        load(tmp_path / "latin.csv", target="y")
    (tmp_path / "values.csv").write_bytes(b"a,y\n" + b"caf\xe9,1\n" * 30)
    with pytest.raises(DataError, match="column 'a' is not text in UTF-8"):
        load(tmp_path / "values.csv", target="y")


def test_rows_without_a_target_are_left_out_and_said_so(tmp_path: Path) -> None:
    path = tmp_path / "gaps.csv"
    path.write_text("a,y\n" + "".join(f"{i},{'' if i < 3 else 'xz'[i % 2]}\n" for i in range(40)))
    data = load(path, target="y")
    assert data.rows == 37
    assert data.notes == ("3 rows without a target were left out",)


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        (np.arange(40) % 3, "multiclass"),
        (np.arange(40) % 2 == 0, "binary"),
        (np.arange(40) * 0.5, "regression"),
        (np.arange(40), "regression"),
        (np.array(["a", "b"] * 20), "binary"),
        (np.array([1.0, 2.0] * 20), "binary"),
    ],
)
def test_the_task_is_what_the_target_looks_like(target: np.ndarray, kind: str) -> None:
    assert from_arrays("made", np.random.default_rng(0).normal(size=(40, 2)), target).task.kind == kind


def test_a_task_can_be_chosen() -> None:
    features = np.random.default_rng(0).normal(size=(60, 2))
    assert from_arrays("made", features, np.arange(60) % 3, task="regression").task.kind == "regression"
    with pytest.raises(DataError, match="a binary task needs two classes"):
        from_arrays("made", features, np.arange(60) % 3, task="binary")


def test_imbalance_is_noticed_and_changes_the_metric() -> None:
    features = np.random.default_rng(0).normal(size=(100, 2))
    data = from_arrays("made", features, np.r_[np.zeros(90), np.ones(10)])
    assert data.task.imbalanced
    assert data.task.default_metric == "balanced_accuracy"


def test_features_are_prepared_on_the_training_part_alone() -> None:
    generator = np.random.default_rng(0)
    features = generator.normal(size=(100, 3))
    target = np.arange(100) % 2
    data = from_arrays("made", features, target)
    split = make_splits(data, (0,), 0.2, 0.2)[0]
    assert np.allclose(split.train.features.mean(0), 0, atol=1e-6)
    rest, test = train_test_split(np.arange(100), test_size=0.2, random_state=0, stratify=target)
    wild = features.copy()
    wild[test] = 1e6  # must leave the training features as they are
    again = make_splits(from_arrays("made", wild, target), (0,), 0.2, 0.2)[0]
    assert torch.equal(again.train.features, split.train.features)
    assert (again.test.features > 1e4).all()
    assert len(rest) == 80


def test_splits_are_stratified_disjoint_and_whole() -> None:
    data = from_arrays("made", np.arange(200.0).reshape(100, 2), np.r_[np.zeros(80), np.ones(20)])
    for split in make_splits(data, (0, 1), 0.2, 0.2):
        parts = (split.train, split.validation, split.test)
        assert [len(part.truth) for part in parts] == [60, 20, 20]
        assert [int(part.truth.sum()) for part in parts] == [12, 4, 4]
        seen = [tuple(row) for part in parts for row in part.features.tolist()]
        assert len(set(seen)) == 100
