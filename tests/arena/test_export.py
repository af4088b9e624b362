"""A comparison as a file: every seed's numbers come back as they were."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

import lossary
from lossary.arena import Comparison, from_arrays
from lossary.arena.answer.export import export
from lossary.errors import StoreError, UnknownNameError


@pytest.fixture(scope="module")
def result() -> Comparison:
    generator = np.random.default_rng(0)
    data = from_arrays("a|b <i>", generator.normal(size=(60, 2)), np.array(["no", "yes"] * 30))
    objectives = ["squentropy", "cross_entropy(label_smoothing=0.1)"]
    return lossary.compare(data, objectives=objectives, store=None, seeds=3, epochs=2, learning_rates=[1e-2], hidden=4)


def write(result: Comparison, path: Path) -> Path:
    return export(result.data, result.protocol, result.units, result.answer, path)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_row_for_each_objective_and_seed(result: Comparison, tmp_path: Path, suffix: str) -> None:
    path = write(result, tmp_path / f"deep/result.{suffix}")
    table: pa.Table = pyarrow.csv.read_csv(path) if suffix == "csv" else pyarrow.parquet.read_table(path)
    rows = table.to_pylist()
    assert len(rows) == 9
    for unit in result.units:
        own = [row for row in rows if row["objective"] == unit.candidate.objective]
        assert [row["seed"] for row in own] == [0, 1, 2]
        for metric in result.protocol.task.metrics:
            found = [row[f"test_{metric.name}"] for row in own]
            np.testing.assert_allclose(np.array(found, dtype=float), unit.test[metric.name])
        assert {row["learning_rate"] for row in own} == {0.01}
        assert all(row["baseline"] == (unit.candidate == result.protocol.baseline) for row in own)
    for line in result.leaderboard:
        if line.difference is not None:
            own = [row["better_by"] for row in rows if row["objective"] == line.candidate.objective]
            assert np.mean(own) == pytest.approx(line.difference.mean)
    parameters = {row["objective"]: json.loads(row["parameters"]) for row in rows}
    assert parameters["cross_entropy"] == {"label_smoothing": 0.1}


def test_json_is_what_programs_get(result: Comparison, tmp_path: Path) -> None:
    text = write(result, tmp_path / "result.JSON").read_text()
    assert json.loads(text) == json.loads(json.dumps(result.to_dict()))
    first = json.loads(text)["leaderboard"][0]
    assert set(first["calibration"]) == {"log_loss", "brier", "smooth_calibration_error"}
    assert first["seconds_per_step"] > 0


def test_markdown_is_the_leaderboard_and_names_stay_names(result: Comparison, tmp_path: Path) -> None:
    lines = write(result, tmp_path / "result.md").read_text().splitlines()
    assert "a\\|b \\<i>" in lines[0]
    assert len(lines) == 4 + len(result.leaderboard)
    assert all(line.replace("\\|", "").count("|") == 7 for line in lines[2:])


def test_what_cannot_be_written_is_said(result: Comparison, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"can be written as \.csv, \.parquet, \.json, \.md, got '\.xls'"):
        write(result, tmp_path / "result.xls")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written to"):
        write(result, tmp_path / "file" / "result.md")
