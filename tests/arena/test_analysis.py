"""The statistics: against other people's programs, against simulation, and at the edges."""

import math
import warnings

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from lossary.arena.answer.analysis import CALIBRATION, Answer, analyse, corrected_interval
from lossary.arena.data.dataset import from_arrays
from lossary.arena.plan.protocol import make_protocol
from lossary.arena.tasks import METRICS, Candidate
from lossary.arena.train.unit_of_work import Unit, choose


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


@pytest.mark.parametrize("seed", range(4))
def test_what_is_written_out_equals_scikit_learn(seed: int) -> None:
    generator = np.random.default_rng(seed)
    truth, scores = generator.integers(0, 3, 50), generator.random((50, 5))  # two classes that nothing is of
    scores[:5] = 0.2  # ties
    assert METRICS["accuracy"](truth, scores) == pytest.approx(sk.accuracy_score(truth, scores.argmax(1)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that classes are predicted which nothing is of
        assert METRICS["balanced_accuracy"](truth, scores) == pytest.approx(sk.balanced_accuracy_score(truth, scores.argmax(1)))
    values, predicted = generator.normal(size=(2, 50))
    assert METRICS["rmse"](values, predicted) == pytest.approx(sk.root_mean_squared_error(values, predicted))
    assert METRICS["mae"](values, predicted) == pytest.approx(sk.mean_absolute_error(values, predicted))


def test_log_loss_and_brier_by_hand() -> None:
    truth, p = np.array([0, 1]), np.array([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1]])
    assert METRICS["log_loss"](truth, p) == pytest.approx(-(math.log(0.5) + math.log(0.8)) / 2)
    assert METRICS["brier"](truth, p) == pytest.approx(((0.25 + 0.09 + 0.04) + (0.01 + 0.04 + 0.01)) / 2)


BASE, OTHER = Candidate("cross_entropy"), Candidate("focal", {"gamma": 3.0})


def answered(others: list[float], metric: str = "accuracy", rows: int = 100) -> Answer:
    """The answer on a baseline at 0.8 and another objective that is better by so much on each seed."""
    seeds = len(others)
    truth = np.tile(np.arange(rows) % 2, (seeds, 1))
    data = from_arrays("made", np.zeros((500, 1)), np.arange(500) % 3)
    protocol = make_protocol(data, objectives=[OTHER.label], metric=metric, seeds=seeds, learning_rates=[0.1, 0.2])

    def unit(candidate: Candidate, values: list[float]) -> Unit:
        wins = np.ones((seeds, 2))
        return Unit(
            candidate=candidate,
            validation=wins,
            losses=np.ones((seeds, 2, 1)),
            curve=np.ones((seeds, 2, 1)),
            curve_epochs=np.array([1]),
            chosen=np.ones(seeds, dtype=np.int64),
            test={**dict.fromkeys(CALIBRATION, np.full(seeds, np.nan)), metric: np.array(values)},
            predictions=np.stack([1 - 0.9 * truth, 0.9 * truth], -1),
            truth=truth,
            batched=True,
            why_not_batched="",
            seconds=1.0,
            seconds_per_step=2e-3,
            peak_memory=5,
        )

    return analyse(protocol, [unit(BASE, [0.8] * seeds), unit(OTHER, [0.8 + more for more in others])])


def test_a_shown_difference_is_recommended_with_all_that_is_known_of_it() -> None:
    answer = answered([0.1, 0.11, 0.09, 0.1, 0.1])
    row = answer.rows[0]
    assert row.difference is not None
    assert answer.recommended == OTHER
    assert OTHER.code == 'loss = lossary.create("focal", gamma=3.0)'
    assert (row.difference.verdict, row.difference.note, row.difference.more_seeds) == ("better", "", None)
    assert row.difference.effect_size == pytest.approx(0.79788 * 0.1 / math.sqrt(0.0002 / 4), rel=1e-4)
    assert row.difference.probability_better > 0.99
    assert row.variance == pytest.approx(row.deviation**2)
    assert (row.learning_rate, row.seconds_per_step, row.peak_memory) == (0.2, 2e-3, 5)
    assert set(row.calibration) == set(CALIBRATION)


def test_what_would_be_needed_is_said_where_nothing_was_shown() -> None:
    seen = answered([0.04, 0.02, 0.05, 0.03, 0.01])
    assert seen.rows[0].difference is not None
    more = seen.rows[0].difference.more_seeds
    assert more is not None
    assert seen.rows[0].difference.note == f"no difference shown; about {more} more seeds would be needed to see one of this size"
    assert f"would need about {more} more seeds to be shown" in seen.sentence
    hopeless = answered([0.04, -0.03, 0.05, -0.02, 0.0])
    assert hopeless.rows[0].difference is not None
    assert "no number of seeds would show one of this size, which needs more data" in hopeless.rows[0].difference.note
    assert "would need more data, not more seeds, to be shown" in hopeless.sentence
    assert hopeless.recommended is None


def test_one_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "corrected for 1 comparison)." in answered([0.1, 0.11, 0.09, 0.1, 0.1]).sentence
    monkeypatch.setattr("lossary.arena.statistics.more_seeds", lambda *_: 1)
    seen = answered([0.04, 0.02, 0.05, 0.03, 0.01])
    assert "would need about 1 more seed to be shown" in seen.sentence
    assert seen.rows[0].difference is not None
    assert "; about 1 more seed would be needed" in seen.rows[0].difference.note


def test_equal_gains_of_one_test_row_are_no_finding() -> None:
    answer = answered([0.01] * 5)
    assert answer.rows[0].difference is not None
    assert answer.rows[0].difference.p_value > 0.1
    assert answer.recommended is None
