"""What paired measurements over overlapping random splits can tell, and what they cannot.

Every seed is a repetition of the whole procedure on another random split, so differences are paired by seed. The splits
share data, which makes an ordinary t-test far too sure; the variance is therefore enlarged as Nadeau and Bengio ("Inference
for the Generalization Error", 2003) derive, by ratio = n_test / n_train.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from scipy.special import gammaln

from lossary.metrics.smooth_ece import smooth_ece

Array = NDArray[Any]
POWER = 0.8
MOST_SEEDS = 1000  # nobody repeats a training more often than this to see a difference that small


@dataclass(frozen=True)
class Paired:
    """One objective against the baseline; differences are above 0 for better."""

    mean: float
    low: float
    high: float
    p_value: float  # two-sided, corrected as the interval is: below 1 - confidence where that is without zero
    verdict: str  # "better", "worse", "no difference shown"
    effect_size: float
    probability_better: float
    more_seeds: int | None = None  # to show a difference of this size, where none was shown and some number of seeds would


def decide(pairs: Sequence[Array | None], ratio: float, confidence: float, least: float = 0.0) -> list[Paired | None]:
    """What is said about each objective: its differences to the baseline (seeds,), or None if it could not be trained.

    Args:
        pairs: for each objective one difference for each seed, above 0 for better.
        ratio: n_test / n_train of the splits.
        confidence: that nothing at all is found where there is nothing. Intervals and p-values are both Bonferroni's, so that they
            never contradict each other.
        least: the deviation assumed when all differences are equal, as coarse metrics on few rows let them be.
    """
    each = 1 - (1 - confidence) / max(len(pairs), 1)
    decided: list[Paired | None] = []
    for pair in pairs:
        if pair is None:
            decided.append(None)
            continue
        mean, low, high, p_value = corrected_interval(pair, ratio, each, least)
        deviation, count = spread(pair, least), len(pair)
        verdict = "better" if low > 0 else "worse" if high < 0 else "no difference shown"
        decided.append(
            Paired(
                mean,
                low,
                high,
                min(p_value * len(pairs), 1.0),
                verdict,
                effect_size(mean, deviation, count),
                probability_better(mean, deviation, count, ratio),
                more_seeds(mean, deviation, count, ratio, 1 - each) if verdict == "no difference shown" else None,
            )
        )
    return decided


def spread(differences: Array, least: float = 0.0) -> float:
    """Standard deviation; ``least`` where all are equal, since equal readings of a ruler do not have error zero."""
    if np.ptp(differences) <= 1e-9 * max(float(np.abs(differences).max()), least):
        return least
    return float(differences.std(ddof=1))


def corrected_interval(
    differences: Array, ratio: float, confidence: float, least: float = 0.0
) -> tuple[float, float, float, float]:
    """Mean, interval and two-sided p-value of paired differences over random splits with n_test / n_train = ratio."""
    count = len(differences)
    mean = float(differences.mean())
    error = float(np.sqrt(1 / count + ratio)) * spread(differences, least)
    if error == 0.0:
        return mean, mean, mean, 1.0 if mean == 0 else 0.0
    half = float(stats.t.ppf(0.5 + confidence / 2, count - 1)) * error
    return mean, mean - half, mean + half, float(2 * stats.t.sf(abs(mean) / error, count - 1))


def effect_size(mean: float, deviation: float, count: int) -> float:
    """Cohen's d of paired differences with Hedges' exact small-sample factor; NaN below three pairs, where it has no mean."""
    if deviation == 0.0 or count < 3:
        return 0.0 if mean == 0.0 else float("nan")
    freedom = count - 1
    factor = np.exp(gammaln(freedom / 2) - gammaln((freedom - 1) / 2)) / np.sqrt(freedom / 2)
    return float(factor * mean / deviation)


def probability_better(mean: float, deviation: float, count: int, ratio: float) -> float:
    """P(mean difference > 0), from the corrected t distribution around the measured mean."""
    error = deviation * float(np.sqrt(1 / count + ratio))
    if error == 0.0:
        return 0.5 if mean == 0.0 else float(mean > 0)
    return float(stats.t.cdf(mean / error, count - 1))


def power(mean: float, deviation: float, count: int, ratio: float, level: float) -> float:
    """The chance to find a true difference of this size with so many seeds, two-sided at ``level``."""
    shift = abs(mean) / (deviation * float(np.sqrt(1 / count + ratio)))
    limit = float(stats.t.isf(level / 2, count - 1))
    return float(stats.nct.sf(limit, count - 1, shift))


def more_seeds(mean: float, deviation: float, count: int, ratio: float, level: float) -> int | None:
    """How many more seeds give power 80 %; None where none do, since overlapping splits leave ``ratio`` of the variance."""
    if mean == 0.0 or deviation == 0.0 or power(mean, deviation, MOST_SEEDS, ratio, level) < POWER:
        return None
    low, high = count, MOST_SEEDS
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if power(mean, deviation, middle, ratio, level) >= POWER else (middle + 1, high)
    return max(low - count, 1)


def confidence_and_correctness(truth: Array, probabilities: Array) -> tuple[Array, Array]:
    """What calibration is about: how sure each prediction was and whether it was right.

    Classes, probabilities (rows, classes): the top label against being it. Labels, both (rows, labels): each one for itself.
    """
    if truth.shape == probabilities.shape:
        return probabilities.ravel().astype(np.float64), truth.ravel().astype(np.float64)
    return probabilities.max(1).astype(np.float64), (probabilities.argmax(1) == truth).astype(np.float64)


def smooth_calibration_error(truth: Array, probabilities: Array) -> float:
    """How far confidence is from correctness, between 0 and 1."""
    confidence, correct = confidence_and_correctness(truth, probabilities)
    return float(smooth_ece(torch.from_numpy(confidence), torch.from_numpy(correct)))
