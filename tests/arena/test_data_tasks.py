"""Targets of every kind, columns of every kind, and groups that stay whole."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from lossary.arena.data.dataset import Data, from_arrays, load
from lossary.arena.data.splits import make_splits
from lossary.errors import DataError

FEATURES = np.random.default_rng(0).normal(size=(200, 3))


def flags(*shares: float, rows: int = 200) -> np.ndarray:
    generator = np.random.default_rng(1)
    return np.stack([generator.permutation(np.arange(rows) < share * rows) for share in shares], axis=1)


def test_several_targets_are_a_multilabel_task(tmp_path: Path) -> None:
    labels = flags(0.5, 0.3, 0.2)
    made = pa.table(
        {
            "x": FEATURES[:, 0],
            "a": labels[:, 0],
            "b": labels[:, 1].astype(int),
            "c": ["True" if value else "FALSE" for value in labels[:, 2]],
        }
    )
    pyarrow.parquet.write_table(made, tmp_path / "t.parquet")
    data = load(tmp_path / "t.parquet", "a, b,c")
    assert (data.task.kind, data.task.num_classes, data.task.imbalanced) == ("multilabel", 3, False)
    assert (data.classes, data.target_name, data.columns) == (("a", "b", "c"), "a, b, c", ("x",))
    assert data.target.dtype == np.float64
    assert np.array_equal(data.target, labels)
    assert load(tmp_path / "t.parquet", ["a", "b", "c"]).fingerprint == data.fingerprint
    for split in make_splits(data, (0, 1), 0.2, 0.2):
        assert tuple(split.test.target.shape) == (40, 3)
        assert split.test.truth.shape == (40, 3)
        assert split.test.target.is_floating_point()
        assert split.test.truth[:, 2].sum() == 8  # stratified by the rarest label


def test_multilabel_is_imbalanced_if_a_label_is_rare() -> None:
    assert from_arrays("made", FEATURES, flags(0.5, 0.09)).task.imbalanced
    assert not from_arrays("made", FEATURES, flags(0.5, 0.1)).task.imbalanced


@pytest.mark.parametrize(
    ("target", "task", "message"),
    [
        (np.arange(400).reshape(200, 2), None, r"must hold 0 and 1 or true and false, got 2(\.0)? in 'label0'"),
        (np.stack([np.arange(200) % 2, np.zeros(200)], 1), None, "'label1' is 1 in 0 rows; each label needs at least 5"),
        (flags(0.5, 0.5), "multiclass", "a multiclass task takes one target column, got 2"),
        (np.arange(200) % 2, "multilabel", "a multilabel task needs several target columns"),
        (np.array(["a", None] * 100, dtype=object), None, "100 values of the target are missing"),
        (np.where(np.arange(200) < 3, np.nan, FEATURES[:, 0]), None, "3 values of the target 'target' are not finite"),
        (np.where(np.arange(200) < 3, np.inf, FEATURES[:, 0]), None, "3 values of the target 'target' are not finite"),
        (np.full(200, 2.5), "regression", "has the same value in every row"),
        (np.zeros((200, 2, 2)), None, r"features must be \(rows, columns\)"),
    ],
)
def test_targets_that_cannot_be_used(target: np.ndarray, task: str | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        from_arrays("made", FEATURES, target, task=task)


def test_a_strongly_skewed_regression_target_is_imbalanced() -> None:
    assert from_arrays("made", FEATURES, np.exp(2 * FEATURES[:, 0])).task.imbalanced
    assert not from_arrays("made", FEATURES, FEATURES[:, 0]).task.imbalanced


def test_one_column_of_a_matrix_and_objects_are_ordinary_targets() -> None:
    assert from_arrays("made", FEATURES, (np.arange(200) % 3)[:, None]).task.kind == "multiclass"
    assert from_arrays("made", FEATURES, np.array([0.5 * i for i in range(200)], dtype=object)).task.kind == "regression"
    assert from_arrays("made", FEATURES, np.array(["a", "b"] * 100, dtype=object)).classes == ("a", "b")


def write(path: Path, **columns: object) -> Path:
    rows = 200
    pyarrow.parquet.write_table(pa.table({**columns, "y": np.arange(rows) % 2, "x": FEATURES[:, 0]}), path)
    return path


def test_columns_that_say_nothing_are_left_out_with_a_note(tmp_path: Path) -> None:
    data = load(
        write(
            tmp_path / "t.parquet",
            same=[1] * 200,
            name=[f"person {i}" for i in range(200)],
            row_id=np.arange(200),
            count=np.arange(200),
            empty=pa.nulls(200),
        ),
        "y",
    )
    assert data.columns == ("count", "x")
    assert data.notes == (
        "the column same has the same value in every row and was left out",
        "the column name has 200 different texts in 200 rows and was left out",
        "the column row_id is a number of the row and was left out",
        "the column empty is empty and was left out",
    )


def test_many_whole_numbers_are_a_quantity_which_is_said() -> None:
    codes = np.arange(600) % 30
    data = from_arrays("made", np.random.default_rng(0).normal(size=(600, 3)), codes, target_name="species")
    assert data.task.kind == "regression"
    assert data.notes == ("the 30 whole numbers in 'species' were taken as a quantity; the task multiclass takes them as classes",)
    for target, task in (
        (codes, "regression"),
        (codes, "multiclass"),
        (codes % 20, None),
        (codes + 0.5, None),
        (np.arange(600) // 8, None),
    ):
        assert from_arrays("made", data.numbers, target, task=task).notes == ()


def test_dates_times_and_durations_become_numbers(tmp_path: Path) -> None:
    start = np.datetime64("2023-11-05T10:30:00")
    stamps = start + np.arange(200) * np.timedelta64(31, "h")
    data = load(
        write(
            tmp_path / "t.parquet",
            when=pa.array(stamps).cast(pa.timestamp("us", tz="UTC")),
            clock=pa.array(np.arange(200), pa.int32()).cast(pa.time32("s")),
            took=pa.array([None, *range(1, 200)], pa.duration("ms")),
        ),
        "y",
    )
    parts = dict(zip(data.columns, data.numbers.T, strict=True))
    expected = ["when.year", "when.month", "when.day", "when.weekday", "when.hour", "when.seconds", "clock", "took", "x"]
    assert list(parts) == expected
    assert [parts[name][0] for name in expected[:5]] == [2023, 11, 5, 6, 10]  # a Sunday; the week starts with Monday as 0
    assert parts["when.seconds"][1] - parts["when.seconds"][0] == 31 * 3600
    assert parts["took"][5] == 0.005
    assert np.isnan(parts["took"][0])


def test_many_categories_become_at_most_fifty_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", city=[f"city {min(i // 2, 99)}" for i in range(200)], member=[True, None] * 100)
    data = load(path, "y")
    assert data.columns == ("x", "city", "member")
    split = make_splits(data, (0,), 0.2, 0.2)[0]
    assert split.width <= 1 + 50 + 2
    assert split.test.features.isfinite().all()


@pytest.mark.parametrize(
    ("values", "columns"),
    [
        (pa.array([2**64 - 1 - i for i in range(200)], pa.uint64()), 1),
        (pa.array(np.arange(200), pa.float16()), 1),
        (pa.array([float("inf") if i % 3 else float(i) for i in range(200)]), 2),  # and whether it is missing
        (pa.array([f"t{i % 3}" for i in range(200)], pa.string_view()), 3),
        (pa.array([i % 3 for i in range(200)]).dictionary_encode(), 1),
        (pa.array([-(10**15) + i for i in range(200)], pa.timestamp("s")), 1),  # before there were years of four digits
        (pa.array([f"{i}.25" for i in range(200)]).cast(pa.decimal128(9, 2)), 1),
    ],
)
def test_columns_of_rarer_types(tmp_path: Path, values: pa.Array, columns: int) -> None:
    path = write(tmp_path / "t.parquet", column=values)
    split = make_splits(load(path, "y"), (0,), 0.2, 0.2)[0]
    assert split.width == columns + 1
    assert split.test.features.isfinite().all()
    assert load(path, "y", group="column").groups is not None


def test_columns_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the column column holds list<.*>, only numbers, text, dates and true/false can be used"):
        load(write(tmp_path / "t.parquet", column=[[1]] * 200), "y")
    with pytest.raises(DataError, match="the group 'column' holds list"):
        load(tmp_path / "t.parquet", "y", group="column")
    with pytest.raises(DataError, match="the target 'column' holds date32"):
        load(write(tmp_path / "t.parquet", column=pa.array(range(200), pa.date32())), "column")


@pytest.mark.parametrize("name", ["", "Unnamed: 0", "index", "id", "recordID"])
def test_a_saved_index_is_no_feature(tmp_path: Path, name: str) -> None:
    assert load(write(tmp_path / "t.parquet", **{name: np.arange(200)}), "y").columns == ("x",)


def test_names_and_words_must_fit_the_rows() -> None:
    with pytest.raises(DataError, match="there are 3 columns and 1 names for them"):
        from_arrays("made", FEATURES, np.arange(200) % 2, columns=["a"])
    with pytest.raises(DataError, match=r"words must be \(200, columns\), got \(3, 1\)"):
        from_arrays("made", FEATURES, np.arange(200) % 2, words=np.array([["a"]] * 3, dtype=object))


def grouped(sizes: list[int]) -> Data:
    groups = np.repeat(np.arange(len(sizes)), sizes)
    generator = np.random.default_rng(0)
    rows = len(groups)
    return from_arrays(
        "made",
        generator.normal(size=(rows, 2)),
        np.arange(rows) % 3,
        groups=np.array([f"p{g}" for g in groups]),
        group_name="patient",
    )


@pytest.mark.parametrize("sizes", [[10] * 30, [100, 3, 5, 40, 8, 9, 20, 11, 30, 6, 7, 50]])
def test_a_group_is_in_one_part_only(sizes: list[int]) -> None:
    data = grouped(sizes)
    assert data.groups is not None
    marked = replace(data, numbers=np.stack([data.groups, np.arange(data.rows)], axis=1).astype(float))
    splits = make_splits(marked, (0, 1, 2), 0.2, 0.2)
    assert len({tuple(len(part.truth) for part in (split.train, split.validation, split.test)) for split in splits}) == 1
    tests = set()
    for split in splits:
        sides = [set(part.features[:, 0].tolist()) for part in (split.train, split.validation, split.test)]
        assert len(set.union(*sides)) == sum(len(side) for side in sides) == len(sizes)
        assert len(split.test.truth) == pytest.approx(0.2 * data.rows, abs=0.06 * data.rows)
        assert len(split.train.truth) == pytest.approx(0.6 * data.rows, abs=0.12 * data.rows)
        tests.add(frozenset(sides[2]))
    assert len(tests) > 1


def test_the_group_is_no_feature_and_changes_the_fingerprint(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", patient=pa.array([None if i < 4 else i // 5 for i in range(200)]))
    data = load(path, "y", group="patient")
    assert (data.columns, data.group_name) == (("x",), "patient")
    assert data.notes[0] == "4 rows without a patient were left out"
    assert data.notes[1].startswith("rows of one patient stay together and groups differ in size")
    assert data.groups is not None
    assert data.groups.dtype == np.int64
    moved = replace(data, groups=np.roll(data.groups, 1))
    assert len({data.fingerprint, moved.fingerprint, replace(data, groups=None).fingerprint}) == 3
    with pytest.raises(DataError, match="has no column 'pacient'; did you mean 'patient'"):
        load(path, "y", group="pacient")
    with pytest.raises(DataError, match="cannot be the target and the group"):
        load(path, "y", group="y")


def test_groups_that_cannot_be_split() -> None:
    with pytest.raises(DataError, match="patient must have at least 3 values, one each for training, validation and test, got 2"):
        grouped([30, 30])
    data = from_arrays("made", FEATURES, np.arange(200) // 150, groups=np.arange(200) // 50, group_name="patient")
    with pytest.raises(DataError, match="'1' is in too few groups to be in training, validation and test"):
        make_splits(data, (0,), 0.2, 0.2)
    with pytest.raises(DataError, match=r"groups must be \(200,\), got \(3,\)"):
        from_arrays("made", FEATURES, np.arange(200) % 2, groups=np.arange(3))


@pytest.mark.parametrize("kind", ["regression", "multilabel"])
def test_groups_with_other_tasks(kind: str) -> None:
    target = FEATURES[:, 0] if kind == "regression" else flags(0.5, 0.3)
    data = from_arrays("made", FEATURES, target, groups=np.arange(200) // 10)
    split = make_splits(data, (0,), 0.2, 0.2)[0]
    assert data.task.kind == kind
    assert len(split.test.truth) == 40


def test_rows_that_are_on_both_sides_are_noticed() -> None:
    twice = np.concatenate([FEATURES, FEATURES + 1e-9])
    note = from_arrays("made", twice, np.arange(400) % 2).notes
    assert len(note) == 1
    assert "of the test rows are the same as a training row, or almost" in note[0]
    share = int(note[0].partition("%")[0])
    assert 45 < share < 75  # six in ten of the other halves are in the training part
    assert from_arrays("made", FEATURES, np.arange(200) % 2).notes == ()
    pictures = np.random.default_rng(0).random((60, 4, 4))
    assert from_arrays("made", np.concatenate([pictures, pictures]), np.arange(120) % 2).notes
    assert not from_arrays("made", pictures, np.arange(60) % 2).notes


def test_twins_in_a_coarse_table_mean_nothing() -> None:
    coarse = np.random.default_rng(0).integers(0, 3, (200, 3))
    assert from_arrays("made", coarse, np.arange(200) % 2).notes == ()


@pytest.mark.parametrize(
    ("column", "values", "noticed"),
    [
        ("patient", np.arange(200) // 4, True),
        ("CustomerID", np.arange(200) // 4, True),
        ("user_no", np.arange(200) // 4, True),
        ("age_group", np.arange(200) // 4, False),
        ("group", np.arange(200) % 2, False),
        ("subject", np.arange(200) + 0.5, False),
    ],
)
def test_a_column_that_names_groups_is_noticed(tmp_path: Path, column: str, values: np.ndarray, noticed: bool) -> None:
    path = write(tmp_path / "t.parquet", **{column: values})
    notes = load(path, "y").notes
    assert len(notes) == noticed
    if noticed:
        assert f"the column {column} looks like the name of a group" in notes[0]
        assert "give it as --group" in notes[0]
        assert load(path, "y", group=column).notes == ()


@pytest.mark.parametrize("name", ["digits", "breast_cancer", "wine", "iris", "diabetes"])
def test_built_in_sets_raise_no_false_alarm(name: str) -> None:
    assert load(name).notes == ()


def test_the_fingerprint_sees_images() -> None:
    pictures = np.random.default_rng(0).random((40, 4, 4))
    data = from_arrays("made", pictures, np.arange(40) % 2)
    pictures[3, 2, 1] += 0.5
    assert from_arrays("made", pictures, np.arange(40) % 2).fingerprint != data.fingerprint
