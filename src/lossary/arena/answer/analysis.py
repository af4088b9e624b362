"""From finished units to an answer: paired differences to the baseline, with intervals that tell the truth."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossary.arena.plan.protocol import Protocol
from lossary.arena.statistics import Paired, corrected_interval, decide
from lossary.arena.tasks import Candidate
from lossary.arena.train.unit_of_work import Unit

__all__ = ["CALIBRATION", "Answer", "Difference", "Row", "analyse", "corrected_interval"]

Array = NDArray[Any]
CALIBRATION = ("log_loss", "brier", "smooth_calibration_error")  # what tells whether probabilities can be believed


@dataclass(frozen=True)
class Difference:
    """How much better than the baseline; above 0 is better whatever the metric."""

    mean: float
    low: float
    high: float
    p_value: float  # corrected for the number of comparisons (Bonferroni), as the interval is
    verdict: str  # "better", "worse", "no difference shown", "could not be trained"
    effect_size: float = float("nan")  # paired Cohen's d with the small-sample factor
    probability_better: float = float("nan")  # that the mean difference is above 0
    more_seeds: int | None = None  # that would show a difference of this size with power 80 %, where some number would
    note: str = ""  # what would have to be done to know more


@dataclass(frozen=True)
class Row:
    """One line of the leaderboard."""

    candidate: Candidate
    mean: float
    deviation: float
    difference: Difference | None  # None for the baseline itself
    learning_rate: float  # the rate chosen most often
    test: dict[str, float]  # every metric, averaged over seeds
    diverged: int
    seconds: float
    variance: float = float("nan")  # over seeds
    calibration: dict[str, float] = field(default_factory=dict)  # CALIBRATION, NaN where predictions are not probabilities
    seconds_per_step: float = 0.0
    peak_memory: int = 0  # bytes that the tensors of one training step of one run hold at most, beyond weights and data
    tuned: dict[str, float] = field(default_factory=dict)  # the objective's own hyper-parameters in the trial chosen most often
    reason: str = ""  # why it is a candidate, if it was chosen

    @property
    def code(self) -> str:
        """The line that makes the objective as it was chosen most often."""
        return Candidate(self.candidate.objective, {**self.candidate.parameters, **self.tuned}).code


@dataclass(frozen=True)
class Answer:
    """The leaderboard, best first, and what to do about it."""

    rows: tuple[Row, ...]
    recommended: Candidate | None
    sentence: str
    code: str = ""  # the line that applies the recommendation, with what tuning chose


def analyse(protocol: Protocol, units: Sequence[Unit]) -> Answer:
    metric = protocol.task.metric(protocol.metric)
    sign = 1.0 if metric.greater_is_better else -1.0
    base = next(unit for unit in units if unit.candidate == protocol.baseline)
    others = [unit for unit in units if unit.candidate != protocol.baseline]
    ratio = protocol.test_share / (1 - protocol.test_share - protocol.validation_share)
    pairs = [sign * (unit.test[metric.name] - base.test[metric.name]) for unit in others]
    trained = [pair if np.isfinite(pair).all() else None for pair in pairs]
    rows = [_row(protocol, base, None)]
    for unit, found in zip(others, decide(trained, ratio, protocol.confidence, _resolution(protocol, base)), strict=True):
        rows.append(_row(protocol, unit, _difference(found)))
    rows.sort(key=lambda row: -np.inf if np.isnan(row.mean) else sign * row.mean, reverse=True)
    better = [row for row in rows if row.difference is not None and row.difference.verdict == "better"]
    sentence = _sentence(protocol, rows, better)
    return Answer(tuple(rows), better[0].candidate, sentence, better[0].code) if better else Answer(tuple(rows), None, sentence)


def _resolution(protocol: Protocol, base: Unit) -> float:
    """What one test row can move the metric by: equal differences on every seed are not known better than this."""
    rows = int(base.truth.shape[1])
    size = float(np.abs(base.test[protocol.metric]).mean()) if protocol.task.kind == "regression" else 1.0
    return (size if np.isfinite(size) else 1.0) / rows


def _difference(found: Paired | None) -> Difference:
    if found is None:
        nothing = float("nan")
        return Difference(nothing, nothing, nothing, 1.0, "could not be trained")
    note = ""
    if found.verdict == "no difference shown":
        if found.mean == 0.0:
            note = "no difference shown; the two agree on average"
        elif found.more_seeds is None:
            note = "no difference shown; no number of seeds would show one of this size, which needs more data"
        else:
            note = f"no difference shown; {_more_seeds(found.more_seeds)} would be needed to see one of this size"
    return Difference(
        found.mean,
        found.low,
        found.high,
        found.p_value,
        found.verdict,
        found.effect_size,
        found.probability_better,
        found.more_seeds,
        note,
    )


def _row(protocol: Protocol, unit: Unit, difference: Difference | None) -> Row:
    values = unit.test[protocol.metric]
    usable = unit.chosen[unit.chosen >= 0]
    trial = int(np.bincount(usable).argmax()) if len(usable) else None
    return Row(
        candidate=unit.candidate,
        mean=float(values.mean()),
        deviation=float(values.std(ddof=1)),
        difference=difference,
        learning_rate=float("nan") if trial is None else protocol.learning_rates[trial],
        test={name: float(found.mean()) for name, found in unit.test.items()},
        diverged=int(unit.diverged.sum()),
        seconds=unit.seconds,
        variance=float(values.var(ddof=1)),
        calibration=_calibration(protocol, unit),
        seconds_per_step=unit.seconds_per_step,
        peak_memory=unit.peak_memory,
        tuned={} if trial is None else protocol.trials(unit.candidate)[trial],
        reason=protocol.why.get(unit.candidate.label, ""),
    )


def gives_probabilities(protocol: Protocol, unit: Unit) -> bool:
    """Whether the unit's predictions can be asked how sure they are."""
    if not protocol.task.of_probabilities or unit.candidate.spec.link != "probabilities":
        return False
    return bool((unit.chosen >= 0).all() and np.isfinite(unit.predictions).all())


def _calibration(protocol: Protocol, unit: Unit) -> dict[str, float]:
    return {} if not protocol.task.of_probabilities else {name: float(unit.test[name].mean()) for name in CALIBRATION}


def _sentence(protocol: Protocol, rows: Sequence[Row], better: Sequence[Row]) -> str:
    base = protocol.baseline.label
    seeds = len(protocol.seeds)
    if better and better[0].difference is not None:
        best, difference = better[0], better[0].difference
        return (
            f"Use {best.candidate.label}: its {protocol.metric} on {protocol.data_name} is better than that of {base} by"
            f" {difference.mean:.4f} ({protocol.confidence:.0%} interval {difference.low:.4f} to {difference.high:.4f},"
            f" {seeds} seeds, corrected for {protocol.comparisons})."
        )
    worse = [row.candidate.label for row in rows if row.difference is not None and row.difference.verdict == "worse"]
    tail = f" Shown to be worse: {', '.join(worse)}." if worse else ""
    return (
        f"No objective was shown to be better than {base} on {protocol.data_name} with {seeds} seeds; stay with it."
        f"{_largest_gain(rows)}{tail}"
    )


def _more_seeds(count: int) -> str:
    return f"about {count} more seed{'' if count == 1 else 's'}"


def _largest_gain(rows: Sequence[Row]) -> str:
    """What it would take to know more about the objective that looked best."""
    gains = [row for row in rows if row.difference is not None and row.difference.mean > 0]
    if not gains or gains[0].difference is None:
        return ""
    best, difference = gains[0], gains[0].difference
    needed = "more data, not more seeds," if difference.more_seeds is None else _more_seeds(difference.more_seeds)
    return f" The largest gain seen, {best.candidate.label} by {difference.mean:.4f}, would need {needed} to be shown."
