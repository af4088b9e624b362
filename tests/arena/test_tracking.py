"""A comparison arrives in a real MLflow store and in real TensorBoard files."""

import sys
from pathlib import Path

import pytest

import lossary
from lossary.arena import Comparison
from lossary.arena.answer.tracking import check_tracker, track
from lossary.errors import InvalidValueError, LossaryError

pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning"), pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@pytest.fixture(scope="module")
def result() -> Comparison:
    return lossary.compare("wine", objectives=["focal(gamma=3.0)"], seeds=2, epochs=3, learning_rates=[1e-2], hidden=8, store=None)


def test_mlflow_has_a_run_for_each_objective(result: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    track("mlflow", result.protocol, result.units, result.answer, tmp_path)
    from mlflow import MlflowClient

    client = MlflowClient()
    experiment = client.get_experiment_by_name("lossary wine")
    assert experiment is not None
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {"cross_entropy", "focal(gamma=3.0)"}
    focal = runs["focal(gamma=3.0)"]
    row = next(row for row in result.leaderboard if row.candidate.objective == "focal")
    assert focal.data.metrics["test_accuracy"] == pytest.approx(row.mean)
    assert focal.data.params["objective.gamma"] == "3.0"
    assert focal.data.tags["lossary.protocol"] == result.protocol.digest
    history = client.get_metric_history(focal.info.run_id, "validation_accuracy")
    assert [point.step for point in history] == [1, 2, 3]


def test_tensorboard_has_curves(result: Comparison, tmp_path: Path) -> None:
    track("tensorboard", result.protocol, result.units, result.answer, tmp_path)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard" / "wine" / "focal(gamma=3.0)"))
    events.Reload()
    assert [point.step for point in events.Scalars("validation/accuracy")] == [1, 2, 3]
    assert "test/accuracy" in events.Tags()["scalars"]


def test_mistakes(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidValueError, match="track must be one of mlflow, tensorboard, got 'wandb'"):
        check_tracker("wandb")
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(LossaryError, match=r"track='mlflow' needs MLflow; install it with: pip install 'lossary\[mlflow\]'"):
        check_tracker("mlflow")
