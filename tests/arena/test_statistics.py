"""What is said about a difference: against other people's programs and simulation of the whole decision."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from lossary.arena.statistics import (
    corrected_interval,
    decide,
    effect_size,
    more_seeds,
    power,
    probability_better,
    smooth_calibration_error,
    spread,
)

RATIO = 0.2 / 0.6
DIFFERENCES = np.array([0.3, -0.1, 0.5, 0.2, 0.05])


def test_the_effect_size_by_hand() -> None:
    # Hedges' factor for 4 degrees of freedom is gamma(2) / (sqrt(2) gamma(1.5)) = 0.79788
    assert effect_size(0.19, 0.2, 5) == pytest.approx(0.79788 * 0.95, rel=1e-4)
    assert math.isnan(effect_size(0.19, 0.2, 2))
    assert effect_size(0.0, 0.0, 5) == 0.0


def test_the_probability_agrees_with_the_p_value_and_the_interval() -> None:
    _, _, _, p_value = corrected_interval(DIFFERENCES, RATIO, 0.95)
    probability = probability_better(float(DIFFERENCES.mean()), float(DIFFERENCES.std(ddof=1)), 5, RATIO)
    assert probability == pytest.approx(1 - p_value / 2)
    _, low, _, _ = corrected_interval(DIFFERENCES, RATIO, 2 * probability - 1)
    assert low == pytest.approx(0.0, abs=1e-12)
    assert probability_better(0.0, 0.0, 5, RATIO) == 0.5


def test_the_power_is_what_simulation_gives() -> None:
    generator = np.random.default_rng(0)
    draws = generator.normal(0.8, 1.0, (20_000, 15))
    ordinary = stats.ttest_1samp(draws, 0.0, axis=1).pvalue
    assert power(0.8, 1.0, 15, 0.0, 0.05) == pytest.approx((ordinary < 0.05).mean(), abs=0.015)


def test_more_seeds_are_as_many_as_are_needed() -> None:
    more = more_seeds(0.9, 1.0, 5, 0.05, 0.01)
    assert more is not None
    assert power(0.9, 1.0, 5 + more, 0.05, 0.01) >= 0.8 > power(0.9, 1.0, 5 + more - 1, 0.05, 0.01)
    tabulated = more_seeds(0.5, 1.0, 2, 0.0, 0.05)  # 34 pairs for an effect of 0.5, the textbooks say
    assert tabulated == 32


def test_no_number_of_seeds_beats_the_overlap_of_the_splits() -> None:
    """Even with endless seeds the error stays at deviation x sqrt(ratio); 0.84 + 1.96 of those are needed."""
    floor = 2.802 * math.sqrt(RATIO)
    assert more_seeds(0.97 * floor, 1.0, 5, RATIO, 0.05) is None
    assert more_seeds(1.05 * floor, 1.0, 5, RATIO, 0.05) is not None
    assert more_seeds(0.0, 1.0, 5, RATIO, 0.05) is None


def test_equal_differences_on_few_rows_are_not_certain() -> None:
    one_row = 1 / 36
    equal = np.full(5, one_row)
    assert spread(equal) == 0.0
    assert spread(equal, one_row) == one_row
    assert spread(equal + 1e-17 * np.arange(5), one_row) == one_row
    (found,) = decide([equal], RATIO, 0.95, one_row)
    assert found is not None
    assert found.p_value > 0.1
    assert found.verdict == "no difference shown"
    (clear,) = decide([np.full(5, 12 * one_row)], RATIO, 0.95, one_row)
    assert clear is not None
    assert clear.verdict == "better"
    assert 0 < clear.p_value < 0.05


def test_rounding_errors_are_no_finding() -> None:
    """An objective that is the baseline under another name differs by the last digit, always in the same direction."""
    (found,) = decide([np.full(5, 2.2e-16)], RATIO, 0.95, 0.01)
    assert found is not None
    assert found.verdict == "no difference shown"


def test_what_could_not_be_trained_still_counts_as_a_comparison() -> None:
    one, two = decide([DIFFERENCES, None], RATIO, 0.95)
    assert two is None
    assert one is not None
    assert (one.low, one.high) == pytest.approx(corrected_interval(DIFFERENCES, RATIO, 0.975)[1:3])


def simulated(generator: np.random.Generator, seeds: int, gain: float) -> list[NDArray[np.float64]]:
    """Differences of accuracy of 7 objectives to a baseline, all on the same overlapping random test parts.

    Every row has, for each method, a probability of being right that depends on the row and, a little, on the method; a training
    draws which rows are right, so that seeds share the data's luck and have their own.
    """
    rows, test, objectives = 200, 40, 7
    hardness = generator.beta(4, 1, size=rows)
    luck = generator.normal(0, 0.08, (objectives + 1, rows))  # what is true of this method on this very data set
    chance = np.clip(hardness + luck, 0, 1)
    chance[1] = np.clip(chance[1] + gain, 0, 1)
    splits = [generator.choice(rows, test, replace=False) for _ in range(seeds)]
    accuracy = np.array([(generator.random((objectives + 1, test)) < chance[:, chosen]).mean(1) for chosen in splits])
    return list((accuracy[:, 1:] - accuracy[:, :1]).T)


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_nothing_is_found_where_there_is_nothing(seeds: int) -> None:
    """The family-wise rate of false findings of the whole decision, in either direction."""
    generator = np.random.default_rng(seeds)
    repeats, found = 500, 0
    for _ in range(repeats):
        decided = decide(simulated(generator, seeds, 0.0), RATIO, 0.95, 1 / 40)
        found += any(one is not None and one.verdict != "no difference shown" for one in decided)
    assert found / repeats <= 0.05 + 1.65 * math.sqrt(0.05 * 0.95 / repeats)


@pytest.mark.parametrize("objectives", [1, 2, 7])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_verdict_interval_and_p_value_never_contradict_each_other(objectives: int, confidence: float) -> None:
    generator = np.random.default_rng(0)
    verdicts = set()
    for _ in range(300):
        pairs = [generator.normal(generator.normal(0, 3), 1.0, 5) for _ in range(objectives)]
        for one in decide(pairs, RATIO, confidence):
            assert one is not None
            shown = one.verdict != "no difference shown"
            assert shown == (one.p_value < 1 - confidence) == (one.low > 0 or one.high < 0)
            verdicts.add(one.verdict)
    assert len(verdicts) == 3


def test_the_p_value_is_multiplied_by_the_number_of_comparisons() -> None:
    alone = corrected_interval(DIFFERENCES, RATIO, 0.95)[3]
    found = decide([DIFFERENCES, None, DIFFERENCES], RATIO, 0.95)[0]
    assert found is not None
    assert found.p_value == pytest.approx(min(3 * alone, 1.0))
    shown = decide([DIFFERENCES + 2, None, DIFFERENCES], RATIO, 0.95)[0]
    assert shown is not None
    assert shown.p_value == pytest.approx(3 * corrected_interval(DIFFERENCES + 2, RATIO, 0.95)[3])


def test_a_real_difference_is_found() -> None:
    generator = np.random.default_rng(0)
    verdicts = []
    for _ in range(100):
        first = decide(simulated(generator, 10, 0.35), RATIO, 0.95, 1 / 40)[0]
        assert first is not None
        verdicts.append(first.verdict)
    assert verdicts.count("better") > 60
    assert verdicts.count("worse") == 0


def test_calibration_of_classes_and_of_labels() -> None:
    sure = np.array([[0.9, 0.1], [0.1, 0.9], [0.9, 0.1], [0.9, 0.1]])
    assert smooth_calibration_error(np.array([0, 1, 0, 1]), sure) == pytest.approx(0.15, abs=1e-3)
    labels = np.array([[1, 0], [1, 0]])
    assert smooth_calibration_error(labels, np.array([[1.0, 0.0], [1.0, 0.0]])) == pytest.approx(0.0, abs=1e-3)
    assert smooth_calibration_error(labels, np.full((2, 2), 0.8)) == pytest.approx(0.3, abs=1e-3)
