"""``lossary.compare`` on every kind of data and task, and what can be done with what it returns."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

import lossary
from lossary.arena import Comparison, from_arrays, rank_across
from lossary.arena.answer.report import write_across
from lossary.arena.data.splits import make_splits
from lossary.errors import InvalidTypeError, InvalidValueError, UnknownNameError

QUICK: dict[str, Any] = {"seeds": 2, "epochs": 3, "learning_rates": [1e-2], "hidden": 8, "store": None}


def test_several_labels_at_once() -> None:
    generator = np.random.default_rng(0)
    features = generator.normal(size=(120, 4))
    labels = (features[:, :3] + generator.normal(0, 0.3, (120, 3)) > 0.5).astype(float)
    result = lossary.compare(from_arrays("labels", features, labels), **{**QUICK, "epochs": 20})
    assert (result.protocol.metric, result.protocol.baseline.label) == ("average_precision", "binary_cross_entropy")
    assert all(unit.batched for unit in result.units)
    assert all(row.mean > 0.7 for row in result.leaderboard if row.candidate.objective == "binary_cross_entropy")
    assert result.units[0].predictions.shape == (2, 24, 3)


def test_images_are_seen_by_a_convolution() -> None:
    generator = np.random.default_rng(0)
    images = generator.normal(size=(80, 12, 12)).astype(np.float32)
    target = np.arange(80) % 2
    images[target == 1, :, :6] += 2.0
    data = from_arrays("halves", images, target)
    result = lossary.compare(data, objectives=["focal"], **{**QUICK, "epochs": 8})
    assert result.protocol.model == "cnn"
    assert all(unit.batched for unit in result.units)
    assert all(row.mean > 0.8 for row in result.leaderboard)
    linear = lossary.compare(data, objectives=["focal"], model="linear", **QUICK)
    assert linear.protocol.model == "linear"


def test_a_data_set_of_pytorch() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(60, 5, generator=generator)
    result = lossary.compare(TensorDataset(features, (features[:, 0] > 0).long()), objectives=["asymmetric"], **QUICK)
    assert result.data.task.kind == "binary"


def test_groups_stay_on_one_side() -> None:
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 6)
    data = from_arrays("people", generator.normal(size=(120, 3)), groups % 2, groups=groups, group_name="person")
    result = lossary.compare(data, objectives=["squentropy"], **QUICK)
    assert all(np.isfinite(row.mean) for row in result.leaderboard)
    assert not any("groups differ" in note for note in data.notes)


def test_groups_that_differ_in_size_cut_the_parts_and_it_is_said() -> None:
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), generator.integers(1, 9, 40))
    data = from_arrays("people", generator.normal(size=(len(groups), 3)), groups % 2, groups=groups, group_name="person")
    assert data.notes[-1].startswith("rows of one person stay together and groups differ in size, so each part is cut by chance")
    splits = make_splits(data, (0, 1, 2), 0.2, 0.2)
    used = [sum(len(part.truth) for part in (split.train, split.validation, split.test)) for split in splits]
    assert len(set(used)) == 1
    assert used[0] < len(groups)
    with pytest.raises(InvalidValueError, match=r"batch_size must be at most the \d+ training rows that whole groups leave"):
        lossary.compare(data, objectives=["squentropy"], batch_size=len(groups) - 2 * round(0.2 * len(groups)), **QUICK)


MODEL = """
from torch import nn

def make(shape, outputs):
    return nn.Sequential(nn.Linear(shape[0], 6), nn.Tanh(), nn.Dropout(0.1), nn.Linear(6, outputs))

def not_a_model(shape, outputs):
    return "a model"

number = 3
"""


def test_a_model_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_models.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    result = lossary.compare("wine", objectives=["focal"], model="my_models:make", **QUICK)
    assert all(unit.batched for unit in result.units)
    with pytest.raises(InvalidTypeError, match=r"the model 'my_models:not_a_model' must return a torch.nn.Module, got str"):
        lossary.compare("wine", objectives=["focal"], model="my_models:not_a_model", **QUICK)
    with pytest.raises(InvalidTypeError, match=r"must be a function of \(shape, outputs\), got int"):
        lossary.compare("wine", objectives=["focal"], model="my_models:number", **QUICK)
    with pytest.raises(UnknownNameError, match="the model 'my_models:mke' cannot be imported"):
        lossary.compare("wine", objectives=["focal"], model="my_models:mke", **QUICK)
    with pytest.raises(InvalidTypeError, match="the model cnn needs images"):
        lossary.compare("wine", objectives=["focal"], model="cnn", **QUICK)


@pytest.fixture(scope="module")
def wine(tmp_path_factory: pytest.TempPathFactory) -> tuple[Comparison, Path]:
    folder = tmp_path_factory.mktemp("results")
    return lossary.compare("wine", objectives=["focal", "squentropy"], **{**QUICK, "store": folder / "arena.sqlite"}), folder


def test_the_protocol_is_on_disk_with_its_hash_before_anything_is_trained(tmp_path: Path) -> None:
    def told(event: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lossary.compare("wine", objectives=["focal"], tell=told, **{**QUICK, "store": tmp_path / "arena.sqlite"})
    plan = json.loads((tmp_path / "wine.protocol.json").read_text())
    assert plan["candidates"] == ["cross_entropy", "focal"]
    assert len(plan["digest"]) == 12


def test_pictures_and_tables_from_python(wine: tuple[Comparison, Path]) -> None:
    result, folder = wine
    assert set(result.differences) == {"focal", "squentropy"}
    for draw in (result.plot_differences, result.plot_learning_curves, result.plot_learning_rates, result.plot_reliability):
        assert len(draw().data) >= 1
    for suffix in ("csv", "parquet", "json", "md"):
        assert result.export(folder / f"wine.{suffix}").stat().st_size > 100
    regression = lossary.compare("diabetes", objectives=["huber"], **QUICK)
    with pytest.raises(InvalidValueError, match="no probabilities to draw a reliability diagram of"):
        regression.plot_reliability()


def test_ranks_over_several_data_sets(wine: tuple[Comparison, Path]) -> None:
    iris = lossary.compare("iris", objectives=["focal", "squentropy"], **QUICK)
    across = rank_across([wine[0], iris])
    assert across.data == ("wine", "iris")
    assert set(across.objectives) == {"cross_entropy", "focal", "squentropy"}
    assert across.average_ranks.sum() == pytest.approx(6.0)


def test_the_page_over_several_data_sets_stands_alone(wine: tuple[Comparison, Path]) -> None:
    iris = lossary.compare("iris", objectives=["focal", "squentropy"], **QUICK)
    across = rank_across([wine[0], iris])
    page = write_across(across, [wine[0], iris], wine[1] / "across.html").read_text()
    for expected in (across.sentence, "wine", "iris", "squentropy", iris.protocol.digest, "Nemenyi"):
        assert expected in page
