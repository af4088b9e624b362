"""Several data sets, one answer: average ranks, Friedman's test, and the difference of ranks that counts (Nemenyi).

Source: Demsar, "Statistical Comparisons of Classifiers over Multiple Data Sets", 2006; Dolan and More, "Benchmarking
optimization software with performance profiles", 2002.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from lossary.arena.answer.analysis import Answer
from lossary.arena.data.dataset import Data
from lossary.arena.plan.protocol import Protocol as Plan
from lossary.errors import DataError

Array = NDArray[Any]


class Compared(Protocol):
    """A finished comparison on one data set."""

    @property
    def data(self) -> Data: ...
    @property
    def protocol(self) -> Plan: ...
    @property
    def answer(self) -> Answer: ...


@dataclass(frozen=True)
class Across:
    """Objectives over data sets, best average rank first. Axes: k objectives, n data sets."""

    data: tuple[str, ...]
    objectives: tuple[str, ...]
    metrics: tuple[str, ...]  # (n,) what decided on each
    scores: Array  # (k, n) the deciding metric, mean over seeds
    ranks: Array  # (k, n) 1 is best, ties averaged
    average_ranks: Array  # (k,)
    gaps: Array  # (k, n) what is lost to the best, as a share of the best; infinite where it could not be trained
    p_value: float  # Friedman's: that all are equal; with two objectives that of the sign test
    critical_difference: float  # of average ranks, Nemenyi at the level below
    level: float
    groups: tuple[tuple[str, ...], ...]  # objectives that were not shown to differ, where there are several
    sentence: str

    def profile(self, gap: float) -> Array:
        """(k,) the share of data sets on which an objective loses at most ``gap`` of the best."""
        return np.asarray((self.gaps <= gap).mean(1))


def critical_difference(objectives: int, data_sets: int, level: float = 0.05) -> float:
    """Nemenyi's: average ranks that differ by more are different."""
    quantile = float(stats.studentized_range.ppf(1 - level, objectives, np.inf)) / np.sqrt(2)
    return float(quantile * np.sqrt(objectives * (objectives + 1) / (6 * data_sets)))


def rank_across(comparisons: Sequence[Compared], level: float = 0.05) -> Across:
    """Rank the objectives that every comparison has."""
    names = tuple(comparison.data.name for comparison in comparisons)
    if len(names) < 2:
        raise DataError(f"ranks across data sets need at least 2 data sets, got {len(names)}")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"each data set counts once, {twice[0]!r} is given more than once")
    tables = [{row.candidate.label: row.mean for row in comparison.answer.rows} for comparison in comparisons]
    shared = [label for label in tables[0] if all(label in table for table in tables)]
    if len(shared) < 2:
        raise DataError(f"ranks need at least 2 objectives that were compared on every data set, got {len(shared)}")
    scores = np.array([[table[label] for table in tables] for label in shared])
    metrics = [comparison.protocol.task.metric(comparison.protocol.metric) for comparison in comparisons]
    signs = np.array([1.0 if metric.greater_is_better else -1.0 for metric in metrics])
    goodness = np.where(np.isfinite(scores), scores * signs, -np.inf)
    ranks = stats.rankdata(-goodness, axis=0)
    order = np.argsort(ranks.mean(1), kind="stable")
    labels, ranks, goodness = [shared[place] for place in order], ranks[order], goodness[order]
    average = ranks.mean(1)
    p_value = _p_value(ranks)
    limit = critical_difference(len(labels), len(names), level)
    groups = _groups(labels, average, limit)
    return Across(
        data=names,
        objectives=tuple(labels),
        metrics=tuple(metric.name for metric in metrics),
        scores=scores[order],
        ranks=ranks,
        average_ranks=average,
        gaps=_gaps(goodness),
        p_value=p_value,
        critical_difference=limit,
        level=level,
        groups=groups,
        sentence=_sentence(labels, average, len(names), p_value, limit, level),
    )


def _p_value(ranks: Array) -> float:
    if np.ptp(ranks) == 0:  # nothing but ties
        return 1.0
    if len(ranks) == 2:
        wins, losses = int((ranks[0] < ranks[1]).sum()), int((ranks[0] > ranks[1]).sum())
        return float(stats.binomtest(wins, wins + losses).pvalue)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few data sets make the chi-square a rough guide, which the sentence is not built on alone
        return float(stats.friedmanchisquare(*ranks).pvalue)


def _gaps(goodness: Array) -> Array:
    """The loss to the best of each data set as a share of the best value's size."""
    best = goodness.max(0)
    size = np.where(np.isfinite(best) & (best != 0), np.abs(best), 1.0)
    with np.errstate(invalid="ignore"):  # where nothing could be trained, infinite less infinite
        lost = (best - goodness) / size
    return np.where(np.isfinite(goodness), lost, np.inf)


def _groups(labels: Sequence[str], average: Array, limit: float) -> tuple[tuple[str, ...], ...]:
    """Longest runs of neighbours in rank that all lie within the critical difference."""
    found: list[tuple[str, ...]] = []
    reached = 0
    for start in range(len(labels)):
        end = int(np.searchsorted(average, average[start] + limit, side="right"))
        if end - start > 1 and end > reached:
            found.append(tuple(labels[start:end]))
        reached = max(reached, end)
    return tuple(found)


def _sentence(labels: Sequence[str], average: Array, data_sets: int, p_value: float, limit: float, level: float) -> str:
    best = f"{labels[0]} has the best average rank over {data_sets} data sets ({average[0]:.2f} of {len(labels)})"
    if p_value > level:
        return f"No difference between the objectives was shown over {data_sets} data sets (p = {p_value:.2g}); {best}."
    behind = [label for label, rank in zip(labels, average, strict=True) if rank - average[0] > limit]
    if not behind:
        return f"{best}; some objectives differ (p = {p_value:.2g}), but none was shown to be worse than it."
    return f"{best} and is better than {', '.join(behind)} (p = {p_value:.2g}, critical difference {limit:.2f})."
