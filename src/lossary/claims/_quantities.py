"""What a claim can measure of predictions: a function of (truth, prediction) that gives one number.

Truth is (rows,) classes, (rows, labels) zeros and ones, or (rows,) values; the prediction is what ``objective.link`` returns.
Metrics of the arena (``"accuracy"``, ``"log_loss"``, ``"smooth_calibration_error"``, ...) and those in ``QUANTITIES`` go by name.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossary.arena.statistics import confidence_and_correctness

Array = NDArray[Any]
Quantity = Callable[[Array, Array], float]


def binned_calibration_error(truth: Array, prediction: Array) -> float:
    """Expected calibration error over 15 bins, which is what most papers report."""
    return binned_error(*confidence_and_correctness(truth, prediction), bins=15)


def binned_error(confidence: Array, correct: Array, bins: int) -> float:
    """The gap between confidence and correctness (rows,), averaged over bins of equal width."""
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    return float(np.abs(np.bincount(place, correct - confidence, minlength=bins)).sum() / len(confidence))


def top_accuracy(k: int) -> Quantity:
    """The share of samples whose class is among the k with the highest scores."""

    def top(truth: Array, prediction: Array) -> float:
        return float((np.argsort(-prediction, axis=1)[:, :k] == truth[:, None]).any(1).mean())

    return top


def accuracy_on(classes: Sequence[int]) -> Quantity:
    """Accuracy averaged over some classes, such as the rarest ones."""

    def accuracy(truth: Array, prediction: Array) -> float:
        return float(np.mean([(prediction[truth == label].argmax(1) == label).mean() for label in classes]))

    return accuracy


def pass_at(n: int) -> Quantity:
    """The chance that at least one of n answers drawn from the predicted probabilities is right."""

    def passed(truth: Array, prediction: Array) -> float:
        right = prediction[np.arange(len(truth)), truth].astype(np.float64)
        return float(np.mean(-np.expm1(n * np.log1p(-np.minimum(right, 1 - 1e-12)))))

    return passed


def f1(label: int = 1) -> Quantity:
    """F1 of one class."""

    def score(truth: Array, prediction: Array) -> float:
        said, is_so = prediction.argmax(1) == label, truth == label
        return float(2 * (said & is_so).sum() / max(int(said.sum() + is_so.sum()), 1))

    return score


def geometric_mean(truth: Array, prediction: Array) -> float:
    """The geometric mean of the recalls of all classes."""
    said = prediction.argmax(1)
    return float(np.prod([(said[truth == label] == label).mean() for label in np.unique(truth)]) ** (1 / len(np.unique(truth))))


QUANTITIES: Mapping[str, Quantity] = {
    "binned_calibration_error": binned_calibration_error,
    "geometric_mean": geometric_mean,
}
NEED_PROBABILITIES = ("binned_calibration_error",)
