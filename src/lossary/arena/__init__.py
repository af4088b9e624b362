"""The main job: a fair comparison of objectives on real data.

>>> import lossary
>>> result = lossary.compare("wine", objectives=["focal", "squentropy"], seeds=2, epochs=2, store=None)
>>> [row.candidate.label for row in result.leaderboard if row.difference is None]
['cross_entropy']
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lossary.arena.analysis import Answer, Row, analyse
from lossary.arena.data import Data, from_arrays, load
from lossary.arena.engine import Event, run_protocol
from lossary.arena.protocol import Protocol, make_protocol
from lossary.arena.run import Unit
from lossary.arena.store import Store

__all__ = ["Comparison", "Data", "Protocol", "compare", "from_arrays", "load"]


@dataclass(frozen=True)
class Comparison:
    """A finished comparison: what was planned, what came out, and what it says."""

    data: Data
    protocol: Protocol
    units: tuple[Unit, ...]
    answer: Answer

    @property
    def leaderboard(self) -> tuple[Row, ...]:
        return self.answer.rows

    def report(self, path: str | Path) -> Path:
        """Write the report as one HTML file that needs nothing else."""
        from lossary.arena.report import write_report

        return write_report(self.data, self.protocol, self.units, self.answer, Path(path))

    def to_dict(self) -> dict[str, object]:
        """Plain values for programs, as ``lossary compare --json`` prints them."""
        from lossary.arena.export import as_dict

        return as_dict(self.data, self.protocol, self.units, self.answer)


def compare(
    data: str | Path | Data,
    *,
    target: str | None = None,
    task: str | None = None,
    objectives: Sequence[str] | None = None,
    baseline: str | None = None,
    metric: str | None = None,
    seeds: int = 5,
    learning_rates: Sequence[float] | None = None,
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
        data: a built-in name (``digits``, ``breast_cancer``, ``wine``, ``iris``, ``diabetes``), the path of a CSV or Parquet file,
            or :class:`Data`.
        target: the column of a file to predict.
        task: ``binary``, ``multiclass`` or ``regression``, where it is not what the target looks like.
        objectives: names, or calls such as ``"focal(gamma=3.0)"``; by default those that suit the task.
        baseline: what differences are taken to; by default the task's usual loss.
        metric: what decides; by default accuracy, balanced accuracy if the classes are imbalanced, or RMSE.
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
    found = data if isinstance(data, Data) else load(data, target, task)
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
    with tempfile.TemporaryDirectory() as scratch:
        kept = Store(Path(scratch) / "arena.sqlite" if store is None else Path(store))
        try:
            units = run_protocol(found, protocol, kept, tell, engine=engine, workers=workers)
        finally:
            kept.close()
    return Comparison(found, protocol, tuple(units), analyse(protocol, units))
