"""Ranks over data sets: the published example, hand-made numbers, and what is refused."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lossary.arena.answer.across import critical_difference, rank_across
from lossary.arena.tasks import METRICS
from lossary.errors import DataError


def comparison(name: str, means: Mapping[str, float], metric: str = "accuracy") -> Any:
    rows = tuple(SimpleNamespace(candidate=SimpleNamespace(label=label), mean=mean) for label, mean in means.items())
    task = SimpleNamespace(metric=lambda name: METRICS[name])
    return SimpleNamespace(
        data=SimpleNamespace(name=name), protocol=SimpleNamespace(task=task, metric=metric), answer=SimpleNamespace(rows=rows)
    )


def test_the_printed_table_of_critical_values() -> None:
    printed = [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164]
    for k, q in enumerate(printed, start=2):
        assert critical_difference(k, 10) == pytest.approx(q * np.sqrt(k * (k + 1) / 60), rel=1e-3)


def test_demsars_example() -> None:
    """Four variants of C4.5 on 14 data sets: printed average ranks 3.143, 2.000, 2.893, 1.964, critical difference 1.25.

    The printed table has 0.975 twice for one data set, the printed ranks are those without that tie.
    """
    table = np.array(
        [
            [0.763, 0.768, 0.771, 0.798], [0.599, 0.591, 0.590, 0.569], [0.954, 0.971, 0.968, 0.967], [0.628, 0.661, 0.654, 0.657],
            [0.882, 0.888, 0.886, 0.898], [0.936, 0.931, 0.916, 0.931], [0.661, 0.668, 0.609, 0.685], [0.583, 0.583, 0.563, 0.625],
            [0.775, 0.838, 0.866, 0.875], [1.000, 1.000, 1.000, 1.000], [0.940, 0.962, 0.965, 0.962], [0.619, 0.666, 0.614, 0.669],
            [0.972, 0.981, 0.9751, 0.975], [0.957, 0.978, 0.946, 0.970],
        ]
    )  # fmt: skip
    names = ("plain", "m", "cf", "m+cf")
    found = rank_across([comparison(str(n), dict(zip(names, row.tolist(), strict=True))) for n, row in enumerate(table)])
    ranks = dict(zip(found.objectives, found.average_ranks.tolist(), strict=True))
    assert ranks == pytest.approx({"plain": 3.143, "m": 2.000, "cf": 2.893, "m+cf": 1.964}, abs=5e-4)
    assert found.critical_difference == pytest.approx(1.25, abs=5e-3)
    assert found.p_value < 0.05
    assert found.groups == (("m+cf", "m", "cf", "plain"),)  # as printed: the test finds that they differ, but not which
    assert "none was shown to be worse" in found.sentence


def many(rows: list[dict[str, float]], metric: str = "accuracy") -> list[Any]:
    return [comparison(f"set {n}", row, metric) for n, row in enumerate(rows)]


def test_a_clear_order_is_said() -> None:
    found = rank_across(many([{"a": 0.9, "b": 0.8, "c": 0.5}] * 12))
    assert found.objectives == ("a", "b", "c")
    np.testing.assert_array_equal(found.average_ranks, [1, 2, 3])
    assert "a has the best average rank over 12 data sets" in found.sentence
    assert "is better than b, c" in found.sentence
    assert found.groups == ()
    np.testing.assert_allclose(found.profile(0.0), [1, 0, 0])
    np.testing.assert_allclose(found.profile(0.12), [1, 1, 0])


def test_ties_are_averaged_and_nothing_is_shown() -> None:
    found = rank_across(many([{"a": 0.9, "b": 0.9, "c": 0.9}] * 3))
    np.testing.assert_array_equal(found.ranks, np.full((3, 3), 2.0))
    assert found.p_value == 1.0
    assert found.sentence.startswith("No difference between the objectives was shown over 3 data sets")
    assert found.groups == (("a", "b", "c"),)


def test_metrics_of_either_direction_and_objectives_that_some_data_lack() -> None:
    one = comparison("one", {"a": 0.9, "b": 0.8, "only here": 1.0})
    two = comparison("two", {"b": 20.0, "a": 10.0}, "rmse")
    found = rank_across([one, two])
    assert found.objectives == ("a", "b")
    np.testing.assert_array_equal(found.ranks, np.array([[1, 1], [2, 2]]))
    np.testing.assert_allclose(found.gaps, np.array([[0.0, 0.0], [1 / 9, 1.0]]))


def test_what_could_not_be_trained_is_last() -> None:
    found = rank_across(many([{"a": float("nan"), "b": 0.8}, {"a": 0.9, "b": 0.8}]))
    np.testing.assert_array_equal(found.ranks[found.objectives.index("a")], [2, 1])
    assert found.profile(1e9).tolist().count(0.5) == 1


def test_too_little_to_rank_is_refused() -> None:
    one = comparison("one", {"a": 0.9, "b": 0.8})
    with pytest.raises(DataError, match="need at least 2 data sets, got 1"):
        rank_across([one])
    with pytest.raises(DataError, match="'one' is given more than once"):
        rank_across([one, one])
    with pytest.raises(DataError, match="at least 2 objectives that were compared on every data set, got 1"):
        rank_across([one, comparison("two", {"a": 0.9, "c": 0.8})])
