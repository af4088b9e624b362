"""When a rule is held, not held or not decided, and how often that is wrong."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from lossary.claims import Finding, Rule, higher, lower, same, steadier
from lossary.claims._rules import deviation_ratio, judge, together
from lossary.errors import InvalidValueError

Array = NDArray[np.float64]


def found(rule: Rule, a: object, b: object = 0.0, **settings: float) -> Finding:
    one = np.atleast_1d(np.asarray(a, dtype=np.float64))
    return judge(rule, {"q": {"a": one, "b": np.broadcast_to(np.asarray(b, dtype=np.float64), one.shape)}}, **settings)


def draws(mean: float, count: int = 20, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(mean, 1.0, count)


@pytest.mark.parametrize(
    ("rule", "mean", "verdict"),
    [
        (higher("q", "a", than="b"), 2.0, "held"),
        (higher("q", "a", than="b"), -2.0, "not held"),
        (higher("q", "a", than="b"), 0.05, "not decided"),
        (higher("q", "a", than="b", by=1.0), 2.5, "held"),
        (higher("q", "a", than="b", by=1.0), 0.0, "not held"),  # it may be better, but not by what was claimed
        (higher("q", "a", than="b", by=-1.0), 0.0, "held"),  # level with it, within 1
        (lower("q", "a", than="b"), -2.0, "held"),
        (lower("q", "a", than="b"), 2.0, "not held"),
        (lower("q", "a", than="b", by=1.0), -2.5, "held"),
        (lower("q", "a", than="b", by=1.0), 0.0, "not held"),
        (lower("q", "a", than="b", by=-1.0), 0.0, "held"),
        (same("q", "a", than="b", within=1.0), 0.0, "held"),
        (same("q", "a", than="b", within=1.0), 3.0, "not held"),
        (same("q", "a", than="b", within=1.0), -3.0, "not held"),
        (same("q", "a", than="b", within=0.05), 0.0, "not decided"),
    ],
)
def test_each_verdict_is_reached(rule: Rule, mean: float, verdict: str) -> None:
    assert found(rule, draws(mean)).verdict == verdict


def test_the_interval_is_the_ordinary_one_where_seeds_are_independent() -> None:
    values = draws(0.4)
    ordinary = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    finding = found(higher("q", "a", than="b"), values)
    assert (finding.low, finding.high) == pytest.approx((ordinary.low, ordinary.high))
    assert finding.differences == pytest.approx(values)


def test_seeds_that_share_data_need_more() -> None:
    values = draws(0.8)
    assert found(higher("q", "a", than="b"), values).verdict == "held"
    assert found(higher("q", "a", than="b"), values, ratio=1.0).verdict == "not decided"


def test_pairs_count_and_not_levels() -> None:
    level = 100 * draws(0.0, seed=1)
    assert found(higher("q", "a", than="b"), level + draws(2.0), level).verdict == "held"


def test_against_a_number_and_with_a_factor() -> None:
    assert found(higher("q", "a", than=0.5), draws(2.0)).verdict == "held"
    third = lower("q", "a", than="b", times=1 / 3)
    assert found(third, [24.0], [192.0]).verdict == "held"
    assert found(third, [80.0], [192.0]).verdict == "not held"
    assert found(third, [80.0], [192.0]).than == pytest.approx(64.0)


def test_without_chance_numbers_are_compared_as_they_are() -> None:
    assert found(lower("q", "a", than="b"), [2.0], [451.0]).verdict == "held"
    assert found(lower("q", "a", than="b"), [2.0], [2.0]).verdict == "not held"
    assert found(same("q", "a", than=1.0, within=0.1), [1.05]).verdict == "held"
    assert found(same("q", "a", than=1.0, within=0.1), [1.1]).verdict == "not held"


def test_a_seed_without_a_number_decides_nothing() -> None:
    values = draws(5.0)
    values[3] = np.nan
    finding = found(higher("q", "a", than="b"), values)
    assert finding.verdict == "not decided"
    assert finding.note == "1 of 20 seeds gave no number"
    assert finding.to_dict()["difference"] is None


def test_equal_readings_of_a_coarse_quantity_are_not_certain() -> None:
    one_row = np.full(5, 1 / 36)
    assert found(higher("q", "a", than="b"), one_row, ratio=0.25, least=1 / 36).verdict == "not decided"


@pytest.mark.parametrize(
    "rule", [higher("q", "a", than="b"), lower("q", "a", than="b", by=0.5), higher("q", "a", than="b", by=0.5)]
)
def test_a_verdict_is_wrong_as_seldom_as_it_says(rule: Rule) -> None:
    """At the limit itself, where both verdicts would be wrong."""
    generator, repeats = np.random.default_rng(0), 4000
    verdicts = [found(rule, generator.normal(rule.limit, 1.0, 10)).verdict for _ in range(repeats)]
    tolerance = 1.96 * math.sqrt(0.025 * 0.975 / repeats)
    assert abs(verdicts.count("held") / repeats - 0.025) < tolerance
    assert abs(verdicts.count("not held") / repeats - 0.025) < tolerance


def test_an_equivalence_is_wrong_as_seldom_as_it_says() -> None:
    generator, repeats = np.random.default_rng(0), 2000
    rule = same("q", "a", than="b", within=1.0)
    wrong = [found(rule, generator.normal(1.0, 1.0, 10)).verdict == "held" for _ in range(repeats)]
    assert np.mean(wrong) < 0.025 + 1.65 * math.sqrt(0.025 * 0.975 / repeats)


def test_overlapping_divisions_of_one_data_set_do_not_make_it_sure() -> None:
    """Arms that are equally good on average over data sets, each with luck on the rows of this one, which all seeds share."""
    generator, repeats, wrong = np.random.default_rng(0), 600, 0
    rows, tested, seeds = 400, 80, 20
    for _ in range(repeats):
        chance = np.clip(generator.beta(4, 1, rows) + generator.normal(0.0, 0.08, (2, rows)), 0, 1)
        chosen = [generator.choice(rows, tested, replace=False) for _ in range(seeds)]
        right = np.array([(generator.random((2, tested)) < chance[:, part]).mean(1) for part in chosen])
        finding = found(higher("q", "a", than="b"), right[:, 0], right[:, 1], ratio=0.25, least=1 / tested)
        wrong += finding.verdict != "not decided"
    assert wrong / repeats <= 0.05 + 1.65 * math.sqrt(0.05 * 0.95 / repeats)


def test_a_claim_of_several_rules_is_wrong_as_seldom_as_one() -> None:
    """Four true equalities: no verdict is right but that none is to be had."""
    generator, repeats, rules = np.random.default_rng(0), 1500, 4
    each = 1 - 0.05 / rules
    wrong = 0
    for _ in range(repeats):
        verdicts = [found(higher("q", "a", than="b"), generator.normal(0, 1, 10), confidence=each).verdict for _ in range(rules)]
        wrong += together(verdicts) != "not decided"
    assert wrong / repeats <= 0.05 + 1.65 * math.sqrt(0.05 * 0.95 / repeats)


def test_a_claim_holds_if_all_of_it_holds() -> None:
    assert together(["held", "held"]) == "held"
    assert together(["held", "not decided"]) == "not decided"
    assert together(["held", "not decided", "not held"]) == "not held"


def test_the_ratio_of_deviations_is_covered_as_often_as_it_says() -> None:
    generator, repeats, covered = np.random.default_rng(0), 3000, 0
    for _ in range(repeats):
        one = generator.normal(0, 1, 12)
        other = 2 * (0.6 * one + 0.8 * generator.normal(0, 1, 12))  # correlated, with twice the deviation
        _, low, high = deviation_ratio(one, other, 0.95)
        covered += low < 0.5 < high
    assert covered / repeats == pytest.approx(0.95, abs=1.96 * math.sqrt(0.05 * 0.95 / repeats))


def test_steadier() -> None:
    values = draws(0.0, 30)
    rule = steadier("q", "a", than="b")
    assert found(rule, 0.2 * values, draws(0.0, 30, seed=1)).verdict == "held"
    assert found(rule, 5 * values, draws(0.0, 30, seed=1)).verdict == "not held"
    assert found(rule, values, draws(0.0, 30, seed=1)).verdict == "not decided"
    assert found(rule, np.zeros(30), values).verdict == "not decided"


def test_rules_say_themselves_in_words() -> None:
    assert str(higher("log_loss", "a", than="b")) == "log loss of a is higher than that of b"
    assert str(lower("q", "a", than="b", by=0.1)) == "q of a is lower than that of b by more than 0.1"
    assert str(higher("q", "a", than="b", by=-0.01)) == "q of a is at most 0.01 lower than that of b"
    assert str(lower("q", "a", than="b", by=-0.01)) == "q of a is at most 0.01 higher than that of b"
    assert str(lower("q", "a", than="b", times=1 / 3)) == "q of a is lower than 0.333 times that of b"
    assert str(higher("q", "a", than=0.9)) == "q of a is higher than 0.9"
    assert str(same("q", "a", than="b", within=0.02)) == "q of a is within 0.02 of that of b"
    assert str(steadier("q", "a", than="b")) == "q of a varies less from seed to seed than that of b"


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="a cannot be compared with itself"):
        higher("q", "a", than="a")
    with pytest.raises(InvalidValueError, match="within must be a number > 0, got 0"):
        same("q", "a", than="b", within=0)
    with pytest.raises(InvalidValueError, match=r"there is no q of c \(there are a: q, b: q\)"):
        found(higher("q", "a", than="c"), [1.0])
