"""The main job: a fair comparison of objectives on real data.

>>> import lossary
>>> result = lossary.compare("wine", objectives=["focal", "squentropy"], seeds=2, epochs=2, store=None)
>>> [row.candidate.label for row in result.leaderboard if row.difference is None]
['cross_entropy']
"""

import json
import re
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossary._core.extras import require

require("a comparison", "scipy", "sklearn", "pyarrow", "jinja2", "plotly")  # before a traceback says the same worse

from torch.utils.data import Dataset

from lossary.arena.answer.across import Across, rank_across
from lossary.arena.answer.analysis import Answer, Difference, Row, analyse
from lossary.arena.data.dataset import Data, from_arrays, load
from lossary.arena.plan.protocol import Protocol, make_protocol
from lossary.arena.train.engine import Event, run_protocol
from lossary.arena.train.store import Store
from lossary.arena.train.unit_of_work import Unit
from lossary.errors import InvalidValueError

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from lossary.arena.answer.figures import Figure

__all__ = ["Across", "Comparison", "Data", "Event", "Protocol", "compare", "from_arrays", "load", "rank_across"]


@dataclass(frozen=True)
class Comparison:
    """A finished comparison: what was planned, what came out, and what it says."""

    data: Data
    protocol: Protocol
    units: tuple[Unit, ...]
    answer: Answer

    @property
    def leaderboard(self) -> tuple[Row, ...]:
        """One row for each objective, best first."""
        return self.answer.rows

    @property
    def differences(self) -> dict[str, Difference]:
        """The paired difference to the baseline, by objective."""
        return {row.candidate.label: row.difference for row in self.answer.rows if row.difference is not None}

    def plot_differences(self) -> "go.Figure":
        """Paired differences to the baseline with their intervals."""
        from lossary.arena.answer import figures

        return _plotly(figures.differences(self.protocol, self.answer))

    def plot_learning_curves(self) -> "go.Figure":
        """The deciding metric on validation data along the chosen runs."""
        from lossary.arena.answer import figures

        return _plotly(figures.curves(self.protocol, self.units))

    def plot_learning_rates(self) -> "go.Figure":
        """How much each objective depends on its learning rate."""
        from lossary.arena.answer import figures

        return _plotly(figures.rates(self.protocol, self.units))

    def plot_reliability(self) -> "go.Figure":
        """How often predictions of each confidence come true; for classes and labels."""
        from lossary.arena.answer import figures

        drawn = figures.reliability(self.protocol, self.units, [unit.candidate.label for unit in self.units])
        if drawn is None:
            raise InvalidValueError(f"{self.data.name}: there are no probabilities to draw a reliability diagram of")
        return _plotly(drawn)

    def report(self, path: str | Path) -> Path:
        """Write the report as one HTML file that needs nothing else."""
        from lossary.arena.answer.report import write_report

        return write_report(self.data, self.protocol, self.units, self.answer, Path(path))

    def export(self, path: str | Path) -> Path:
        """Write the numbers, one row for each objective and seed (.csv, .parquet), all of them (.json), or a table (.md)."""
        from lossary.arena.answer.export import export

        return export(self.data, self.protocol, self.units, self.answer, Path(path))

    def to_dict(self) -> dict[str, object]:
        """Plain values for programs, as ``lossary compare --json`` prints them."""
        from lossary.arena.answer.export import as_dict

        return as_dict(self.data, self.protocol, self.units, self.answer)


def _plotly(figure: "Figure") -> "go.Figure":
    import plotly.graph_objects as go

    return go.Figure(figure)


def compare(
    data: "str | Path | Data | Dataset[Any]",
    *,
    target: str | Sequence[str] | None = None,
    task: str | None = None,
    group: str | None = None,
    query: str | None = None,
    max_rows: int = 200_000,
    image_size: int = 32,
    objectives: Sequence[str] | None = None,
    baseline: str | None = None,
    metric: str | None = None,
    seeds: int = 5,
    learning_rates: float | Sequence[float] | None = None,
    trials: int = 0,
    sampler: str = "qmc",
    epochs: int = 60,
    batch_size: int | None = None,
    patience: int = 0,
    model: str | None = None,
    hidden: int = 64,
    engine: str = "local",
    workers: int = 1,
    store: str | Path | None = "lossary-results/arena.sqlite",
    tell: Callable[[Event], None] | None = None,
) -> Comparison:
    """Compare objectives on a data set: same splits, first weights, batches and tuning budget for each.

    Args:
        data: a built-in name (``digits``, ``breast_cancer``, ``wine``, ``iris``, ``diabetes``), the path of a CSV, Parquet, Arrow,
            NPZ or SVMlight (LETOR) file or of a folder with a folder of images for each class, a PyTorch data set, or
            :class:`Data`.
        target: the column of a file to predict; several names, or one text with commas, for several labels.
        task: ``binary``, ``multiclass``, ``multilabel`` or ``regression``, where it is not what the target looks like; or
            ``retrieval``, to find rows of the same class by embeddings, of classes that training has not seen.
        group: the column of a file whose rows belong together (a patient, a user) and stay on one side of a split.
        query: the column of a file that names the list of each row, for a ranking of the rows within lists by relevance.
        max_rows: of a larger file a random sample of so many rows is read.
        image_size: images are brought to so many pixels a side.
        objectives: names, or calls such as ``"focal(gamma=3.0)"``; by default those that suit what the data look like; the
            result says why (``.protocol.look``, ``.protocol.why``).
        baseline: what differences are taken to; by default the task's usual loss.
        metric: what decides; by default accuracy, balanced accuracy if the classes are imbalanced, RMSE,
            recall at 1, or NDCG at 10.
        seeds: repetitions, each with its own split, first weights and batch order.
        learning_rates: the tuning budget, the same for every objective.
        trials: if not 0, draw so many trials for each objective instead, of the learning rate (between the smallest and the
            largest given) and of the hyper-parameters that the objective declares.
        sampler: Optuna's ``qmc`` or ``random``.
        epochs, batch_size, hidden: how each run is trained.
        patience: end a run after so many epochs without improvement on validation data, and keep its best epoch; 0 never does.
        model: ``mlp``, ``linear``, ``cnn`` (the default for images), or ``module:factory``, a function of (shape, outputs).
        engine: ``local``, or ``ray`` for a cluster.
        workers: processes of the local engine.
        store: the file that keeps finished work, or None to keep nothing.
        tell: called with an :class:`Event` as the work goes on.
    """
    found = (
        data
        if isinstance(data, Data)
        else load(data, target, task, group=group, query=query, max_rows=max_rows, image_size=image_size)
    )
    protocol = make_protocol(
        found,
        objectives=objectives,
        baseline=baseline,
        metric=metric,
        seeds=seeds,
        learning_rates=learning_rates,
        trials=trials,
        sampler=sampler,
        epochs=epochs,
        batch_size=batch_size,
        patience=patience,
        model=model,
        hidden=hidden,
    )
    with nullcontext() if store is None else closing(Store(Path(store))) as kept:
        if kept is not None:
            _write_plan(kept.path.parent, protocol, found.source)
        units = run_protocol(found, protocol, kept, tell, engine=engine, workers=workers)
    return Comparison(found, protocol, tuple(units), analyse(protocol, units))


def _plan_path(folder: Path, name: str) -> Path:
    safe = re.sub(r"[^\w.-]+", "_", name)
    return folder / f"{safe}.protocol.json"


def _write_plan(folder: Path, protocol: Protocol, source: str) -> None:
    """The protocol with its hash, on disk before anything is trained."""
    plan = {"digest": protocol.digest, "source": source, **protocol.to_dict()}
    _plan_path(folder, protocol.data_name).write_text(json.dumps(plan, indent=2) + "\n", encoding="utf-8")


def other_source(folder: str | Path, data: Data) -> str:
    """Where the data came from that were compared in this folder under the same name, if they are others; edited data are not."""
    try:
        plan = json.loads(_plan_path(Path(folder), data.name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    source = str(plan.get("source", ""))
    return source if data.source != source and data.fingerprint != plan.get("data_fingerprint") else ""
