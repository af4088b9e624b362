"""Writing a finished comparison to where a team already looks: MLflow or TensorBoard."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from lossary._core.extras import require
from lossary.arena.answer.analysis import Answer
from lossary.arena.plan.protocol import Protocol
from lossary.arena.train.unit_of_work import Unit
from lossary.errors import InvalidValueError

TrackerName = Literal["mlflow", "tensorboard"]
TRACKERS: tuple[TrackerName, ...] = ("mlflow", "tensorboard")


def check_tracker(name: str) -> None:
    """Refuse, before any training, what cannot be written to afterwards."""
    if name not in TRACKERS:
        raise InvalidValueError(f"track must be one of {', '.join(TRACKERS)}, got {name!r}")
    require(f"track={name!r}", name)


def track(name: str, protocol: Protocol, units: tuple[Unit, ...], answer: Answer, folder: Path) -> None:
    """One run for each objective: parameters, test metrics, and validation along the epochs (mean over seeds).

    MLflow writes to the store that its own settings name (``MLFLOW_TRACKING_URI``); TensorBoard to a folder beside the report.
    """
    check_tracker(name)
    if name == "mlflow":
        _to_mlflow(protocol, units, answer)
    else:
        _to_tensorboard(protocol, units, folder / "tensorboard")


def _curve(unit: Unit) -> Iterator[tuple[int, float]]:
    kept = [unit.curve[seed, rate] for seed, rate in enumerate(unit.chosen) if rate >= 0]
    for epoch, values in zip(unit.curve_epochs, np.array(kept).T, strict=True) if kept else ():
        if np.isfinite(values).any():
            yield int(epoch), float(np.nanmean(values))


def _tests(unit: Unit) -> dict[str, float]:
    means = {metric: float(values.mean()) for metric, values in unit.test.items()}
    return {metric: value for metric, value in means.items() if np.isfinite(value)}


def _to_mlflow(protocol: Protocol, units: tuple[Unit, ...], answer: Answer) -> None:
    import mlflow

    mlflow.set_experiment(f"lossary {protocol.data_name}")
    for unit in units:
        with mlflow.start_run(run_name=unit.candidate.label):
            own = {f"objective.{key}": value for key, value in unit.candidate.parameters.items()}
            mlflow.log_params({"objective": unit.candidate.objective, **own, "model": protocol.model, "metric": protocol.metric})
            mlflow.set_tags({"lossary.protocol": protocol.digest, "lossary.answer": answer.sentence})
            mlflow.log_metrics({f"test_{metric}": value for metric, value in _tests(unit).items()})
            for epoch, value in _curve(unit):
                mlflow.log_metric(f"validation_{protocol.metric}", value, step=epoch)


def _to_tensorboard(protocol: Protocol, units: tuple[Unit, ...], folder: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    for unit in units:
        with SummaryWriter(folder / protocol.data_name / unit.candidate.label) as writer:
            writer.add_text("protocol", protocol.digest)
            for epoch, value in _curve(unit):
                writer.add_scalar(f"validation/{protocol.metric}", value, epoch)
            for metric, value in _tests(unit).items():
                writer.add_scalar(f"test/{metric}", value, protocol.recipe.epochs)
