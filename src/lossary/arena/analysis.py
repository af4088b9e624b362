"""From finished units to an answer: paired differences to the baseline, with intervals that tell the truth.

Every seed is a repetition of the whole procedure on another random split, so differences are paired by seed. The splits
share data, which makes an ordinary t-test far too sure; the variance is therefore enlarged as Nadeau and Bengio ("Inference
for the Generalization Error", 2003) derive, by n_test / n_train. Intervals and p-values are corrected for the number of
objectives that are compared with the baseline.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from lossary.arena.protocol import Protocol
from lossary.arena.run import Unit
from lossary.arena.tasks import Candidate

Array = NDArray[Any]


@dataclass(frozen=True)
class Difference:
    """How much better than the baseline; above 0 is better whatever the metric."""

    mean: float
    low: float
    high: float
    p_value: float  # corrected (Holm)
    verdict: str  # "better", "worse", "no difference shown", "could not be trained"


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


@dataclass(frozen=True)
class Answer:
    """The leaderboard, best first, and what to do about it."""

    rows: tuple[Row, ...]
    recommended: Candidate | None
    sentence: str


def corrected_interval(differences: Array, ratio: float, confidence: float) -> tuple[float, float, float, float]:
    """Mean, interval and two-sided p-value of paired differences over random splits with n_test / n_train = ratio."""
    count = len(differences)
    mean = float(differences.mean())
    error = float(np.sqrt((1 / count + ratio) * differences.var(ddof=1)))
    if error == 0.0:
        return mean, mean, mean, 1.0 if mean == 0 else 0.0
    half = float(stats.t.ppf(0.5 + confidence / 2, count - 1)) * error
    return mean, mean - half, mean + half, float(2 * stats.t.sf(abs(mean) / error, count - 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction."""
    order = np.argsort(p_values)
    steps = np.array(p_values)[order] * np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(value) for value in corrected]


def analyse(protocol: Protocol, units: Sequence[Unit]) -> Answer:
    metric = protocol.task.metric(protocol.metric)
    sign = 1.0 if metric.greater_is_better else -1.0
    base = next(unit for unit in units if unit.candidate == protocol.baseline)
    others = [unit for unit in units if unit.candidate != protocol.baseline]
    ratio = protocol.test_share / (1 - protocol.test_share - protocol.validation_share)
    confidence = 1 - (1 - protocol.confidence) / max(len(others), 1)
    measured = []
    for unit in others:
        pairs = sign * (unit.test[metric.name] - base.test[metric.name])
        measured.append(corrected_interval(pairs, ratio, confidence) if np.isfinite(pairs).all() else None)
    corrected = iter(holm([found[3] for found in measured if found is not None]))
    rows = [_row(protocol, base, None)]
    for unit, found in zip(others, measured, strict=True):
        if found is None:
            nothing = float("nan")
            rows.append(_row(protocol, unit, Difference(nothing, nothing, nothing, 1.0, "could not be trained")))
            continue
        mean, low, high, _ = found
        verdict = "better" if low > 0 else "worse" if high < 0 else "no difference shown"
        rows.append(_row(protocol, unit, Difference(mean, low, high, next(corrected), verdict)))
    rows.sort(key=lambda row: -np.inf if np.isnan(row.mean) else sign * row.mean, reverse=True)
    better = [row for row in rows if row.difference is not None and row.difference.verdict == "better"]
    return Answer(tuple(rows), better[0].candidate if better else None, _sentence(protocol, rows, better))


def _row(protocol: Protocol, unit: Unit, difference: Difference | None) -> Row:
    values = unit.test[protocol.metric]
    usable = unit.chosen[unit.chosen >= 0]
    rate = protocol.learning_rates[int(np.bincount(usable).argmax())] if len(usable) else float("nan")
    return Row(
        candidate=unit.candidate,
        mean=float(values.mean()),
        deviation=float(values.std(ddof=1)),
        difference=difference,
        learning_rate=rate,
        test={name: float(found.mean()) for name, found in unit.test.items()},
        diverged=int(unit.diverged.sum()),
        seconds=unit.seconds,
    )


def _sentence(protocol: Protocol, rows: Sequence[Row], better: Sequence[Row]) -> str:
    base = protocol.baseline.label
    seeds = len(protocol.seeds)
    if better and better[0].difference is not None:
        best, difference = better[0], better[0].difference
        return (
            f"Use {best.candidate.label}: its {protocol.metric} on {protocol.data_name} is better than that of {base} by"
            f" {difference.mean:.4f} ({protocol.confidence:.0%} interval {difference.low:.4f} to {difference.high:.4f},"
            f" {seeds} seeds, corrected for {len(rows) - 1} comparisons)."
        )
    worse = [row.candidate.label for row in rows if row.difference is not None and row.difference.verdict == "worse"]
    tail = f" Shown to be worse: {', '.join(worse)}." if worse else ""
    return f"No objective was shown to be better than {base} on {protocol.data_name} with {seeds} seeds; stay with it.{tail}"
