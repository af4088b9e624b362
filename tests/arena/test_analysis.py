"""The statistics: against other people's programs, against simulation, and at the edges."""

import math

import numpy as np
import pytest
from scipy import stats

from lossary.arena.analysis import corrected_interval, holm
from lossary.arena.run import choose
from lossary.arena.tasks import METRICS


def test_without_overlap_it_is_the_paired_t_test() -> None:
    differences = np.array([0.3, -0.1, 0.5, 0.2, 0.05])
    mean, low, high, p_value = corrected_interval(differences, ratio=0.0, confidence=0.9)
    theirs = stats.ttest_1samp(differences, 0.0)
    interval = theirs.confidence_interval(0.9)
    assert (mean, low, high, p_value) == pytest.approx((differences.mean(), interval.low, interval.high, theirs.pvalue))


def test_overlap_widens_the_interval_as_nadeau_and_bengio_say() -> None:
    differences = np.array([0.3, -0.1, 0.5, 0.2, 0.05])
    _, low, high, _ = corrected_interval(differences, ratio=1 / 3, confidence=0.95)
    variance = sum((d - 0.19) ** 2 for d in differences.tolist()) / 4
    half = 2.7764451 * math.sqrt((1 / 5 + 1 / 3) * variance)  # the 97.5 % point of t with 4 degrees of freedom
    assert (low, high) == pytest.approx((0.19 - half, 0.19 + half), rel=1e-6)


def test_no_spread_at_all() -> None:
    assert corrected_interval(np.zeros(4), 0.3, 0.95) == (0.0, 0.0, 0.0, 1.0)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_resampled_splits_of_one_data_set_do_not_find_what_is_not_there() -> None:
    """Two equally good random classifiers judged on overlapping random splits: at most 5 % false findings.

    Each simulated data set gives every row a fixed difference of the two methods' correctness with mean zero; a seed's measured
    difference is the mean over its own random test part, so that seeds share rows as real ones do, plus its own training noise.
    """
    generator = np.random.default_rng(0)
    rows, test, seeds, found = 200, 40, 5, 0
    repeats = 1000
    for _ in range(repeats):
        per_row = generator.choice([-1.0, 0.0, 1.0], size=rows, p=[0.1, 0.8, 0.1])
        splits = [generator.choice(rows, test, replace=False) for _ in range(seeds)]
        differences = np.array([per_row[chosen].mean() for chosen in splits]) + generator.normal(0, 0.01, seeds)
        _, low, high, _ = corrected_interval(differences, ratio=0.2 / 0.6, confidence=0.95)
        found += low > 0 or high < 0
    assert found / repeats <= 0.05


def test_the_best_rate_is_chosen_and_ties_go_to_the_smaller() -> None:
    accuracy, rmse = METRICS["accuracy"], METRICS["rmse"]
    values = np.array([[0.1, 0.5, 0.4], [0.7, 0.7, 0.2], [np.nan, np.nan, 0.1], [np.nan, np.nan, np.nan]])
    assert choose(values, accuracy).tolist() == [1, 0, 2, -1]
    assert choose(values, rmse).tolist() == [0, 2, 2, -1]


@pytest.mark.parametrize("metric", [m for m in METRICS.values() if "multiclass" in m.tasks], ids=lambda m: m.name)
def test_metrics_know_which_direction_is_better(metric) -> None:  # type: ignore[no-untyped-def]
    truth = np.array([0, 1, 2, 1, 0, 2])
    right = np.eye(3)[truth] * 0.9 + 0.1 / 3
    wrong = np.eye(3)[(truth + 1) % 3] * 0.9 + 0.1 / 3
    assert (metric(truth, right) > metric(truth, wrong)) == metric.greater_is_better
    assert math.isnan(metric(truth, np.full((6, 3), np.nan)))


def test_log_loss_and_brier_by_hand() -> None:
    truth, p = np.array([0, 1]), np.array([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1]])
    assert METRICS["log_loss"](truth, p) == pytest.approx(-(math.log(0.5) + math.log(0.8)) / 2)
    assert METRICS["brier"](truth, p) == pytest.approx(((0.25 + 0.09 + 0.04) + (0.01 + 0.04 + 0.01)) / 2)
