"""A comparison as a whole: fair by construction, resumable bit for bit, readable, and honest about what it did not do."""

import inspect
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.arena.common import same
from torch import Tensor

import lossary
from lossary.arena import Comparison, from_arrays, load
from lossary.arena.plan.protocol import make_protocol
from lossary.arena.tasks import Candidate
from lossary.arena.train.engine import Event
from lossary.errors import InvalidTypeError, InvalidValueError, LossaryError, UnknownNameError

QUICK: dict[str, Any] = {"seeds": 2, "epochs": 3, "learning_rates": [1e-3, 1e-2], "hidden": 8}


@pytest.fixture(scope="module")
def wine(tmp_path_factory: pytest.TempPathFactory) -> tuple[Comparison, Path]:
    store = tmp_path_factory.mktemp("store") / "arena.sqlite"
    return lossary.compare("wine", store=store, **QUICK), store


def test_every_default_is_measured_on_every_kind_of_task(wine: tuple[Comparison, Path]) -> None:
    results = [wine[0], *(lossary.compare(name, store=None, **QUICK) for name in ("breast_cancer", "diabetes"))]
    for result in results:
        assert {row.candidate.label for row in result.leaderboard} == set(result.protocol.why)
        assert all(unit.batched for unit in result.units)
        for row in result.leaderboard:
            assert np.isfinite(row.mean)
            assert (row.difference is None) == (row.candidate == result.protocol.baseline)


def test_all_objectives_see_the_same_test_rows(wine: tuple[Comparison, Path]) -> None:
    first, *others = wine[0].units
    for unit in others:
        np.testing.assert_array_equal(unit.truth, first.truth)


def test_a_second_run_is_free_and_the_same(wine: tuple[Comparison, Path]) -> None:
    events: list[Event] = []
    again = lossary.compare("wine", store=wine[1], tell=events.append, **QUICK)
    assert {event.kind for event in events} == {"reused"}
    assert all(unit.reused for unit in again.units)
    same(wine[0], again)


def test_an_interrupted_run_goes_on_to_the_same_result(wine: tuple[Comparison, Path], tmp_path: Path) -> None:
    def stop(event: Event) -> None:
        if event.unit == 4 and event.epoch == 2:
            raise KeyboardInterrupt

    store = tmp_path / "arena.sqlite"
    with pytest.raises(KeyboardInterrupt):
        lossary.compare("wine", store=store, tell=stop, **QUICK)
    kinds: list[str] = []
    resumed = lossary.compare("wine", store=store, tell=lambda event: kinds.append(event.kind), **QUICK)
    assert kinds.count("reused") == 3
    assert kinds.count("done") == len(wine[0].units) - 3
    same(wine[0], resumed)


def test_what_an_objective_scores_does_not_depend_on_the_others(wine: tuple[Comparison, Path]) -> None:
    alone = lossary.compare("wine", objectives=["squentropy"], store=None, **QUICK)
    from_all = {unit.candidate.label: unit for unit in wine[0].units}
    for unit in alone.units:
        np.testing.assert_array_equal(unit.predictions, from_all[unit.candidate.label].predictions)


def test_a_real_difference_is_found_and_recommended() -> None:
    """Outliers in the target: absolute error must beat squared error for the median of most rows."""
    generator = np.random.default_rng(0)
    features = generator.normal(size=(600, 3))
    target = features @ [1.0, -2.0, 0.5] + generator.normal(0, 0.1, 600)
    target[generator.random(600) < 0.1] += 400.0
    result = lossary.compare(
        from_arrays("outliers", features, target),
        objectives=["mean_absolute_error"],
        metric="mae",
        seeds=6,
        epochs=30,
        model="linear",
        learning_rates=[1e-2, 1e-1],
        store=None,
    )
    assert result.answer.recommended == Candidate("mean_absolute_error")
    assert "Use mean_absolute_error: its mae on outliers is better than that of mean_squared_error" in result.answer.sentence


def test_an_objective_against_itself_shows_nothing() -> None:
    result = lossary.compare("wine", objectives=["polyloss(epsilon=0.0)"], store=None, **QUICK)
    row = next(row for row in result.leaderboard if row.difference is not None)
    assert row.difference is not None
    assert row.difference.verdict == "no difference shown"
    assert result.answer.recommended is None
    assert "No objective was shown to be better than cross_entropy" in result.answer.sentence


def test_a_run_that_diverges_is_said_and_never_chosen() -> None:
    features = np.random.default_rng(0).normal(size=(80, 2)) * 1e30
    target = np.random.default_rng(1).normal(size=80)
    result = lossary.compare(
        from_arrays("wild", features, target),
        objectives=["huber"],
        store=None,
        seeds=2,
        epochs=2,
        hidden=4,
        learning_rates=[1e-3, 900.0],
    )
    for unit in result.units:
        assert unit.diverged.shape == (2, 2)
        for seed, rate in enumerate(unit.chosen):
            assert rate == -1 or not unit.diverged[seed, rate]


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"objectives": ["focul"]}, UnknownNameError, "there is no objective named 'focul'; did you mean 'focal'"),
        ({"objectives": ["focal(gamma=-1)"]}, InvalidValueError, "focal: gamma must be a finite number >= 0, got -1"),
        ({"objectives": ["focal(gama=1)"]}, InvalidTypeError, "focal: there is no parameter 'gama'; did you mean 'gamma'"),
        (
            {"objectives": ["focal(2.0)"]},
            InvalidValueError,
            r"an objective is written as focal or focal\(gamma=3.0\), got 'focal\(2.0\)'",
        ),
        ({"objectives": ["focal(gamma=print())"]}, InvalidValueError, "with plain values"),
        (
            {"objectives": ["huber"]},
            InvalidValueError,
            "a multiclass task takes objectives of the family classification, this one is regression",
        ),
        (
            {"objectives": ["cross_entropy"]},
            InvalidValueError,
            "compare: objectives must name another one than the baseline cross_entropy",
        ),
        ({"objectives": ["focal", "focal"]}, InvalidValueError, "objectives must differ"),
        ({"metric": "rmse"}, UnknownNameError, "there is no metric 'rmse' for a multiclass task"),
        ({"seeds": 1}, InvalidValueError, "compare: seeds must be an integer >= 2, got 1"),
        ({"epochs": 0}, InvalidValueError, "compare: epochs must be an integer >= 1, got 0"),
        (
            {"learning_rates": [0.0]},
            InvalidValueError,
            r"compare: learning_rates must be a number above 0 and up to 1000, or a .* got \[0\.0\]",
        ),
        ({"hidden": 0}, InvalidValueError, "compare: hidden must be an integer >= 1, got 0"),
        ({"patience": -1}, InvalidValueError, "compare: patience must be an integer >= 0, got -1"),
        ({"epochs": 1.5}, InvalidTypeError, "compare: epochs must be an integer >= 1, got 1.5"),
        ({"model": "forest"}, UnknownNameError, "there is no model 'forest'"),
        ({"batch_size": 1000}, InvalidValueError, "batch_size must be from 1 to the 106 training rows, got 1000"),
    ],
)
def test_mistakes_are_refused_before_any_training(settings: dict[str, Any], error: type[LossaryError], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        lossary.compare("wine", store=None, **{**QUICK, **settings}, tell=lambda event: pytest.fail("trained"))
    assert "\n" not in str(caught.value)


def test_the_key_of_a_unit_changes_with_all_that_determines_it_and_nothing_else() -> None:
    data = load("wine")
    base = make_protocol(data)
    candidate = Candidate("focal")
    key = base.unit_key(candidate)
    changed = [
        replace(base, metric="auroc"),
        replace(base, seeds=(0, 1)),
        replace(base, learning_rates=(0.1,)),
        replace(base, model="linear"),
        replace(base, hidden=65),
        replace(base, recipe=replace(base.recipe, epochs=61)),
        replace(base, data_fingerprint="other"),
        replace(base, test_share=0.25),
    ]
    keys = {key, base.unit_key(Candidate("focal", {"gamma": 3.0})), *(protocol.unit_key(candidate) for protocol in changed)}
    assert len(keys) == len(changed) + 2
    assert replace(base, candidates=(candidate,), confidence=0.9, data_name="renamed").unit_key(candidate) == key
    assert len({base.digest, *(protocol.digest for protocol in changed)}) == len(changed) + 1


def test_plain_values_for_programs(wine: tuple[Comparison, Path]) -> None:
    text = json.dumps(wine[0].to_dict(), allow_nan=False)
    back = json.loads(text)
    assert [row["label"] for row in back["leaderboard"]] == [row.candidate.label for row in wine[0].leaderboard]
    assert back["protocol"]["metric"] == "accuracy"
    assert len(back["leaderboard"][0]["seeds"]) == 2


def test_the_report_stands_alone_and_escapes_what_the_data_say(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    data = from_arrays(
        "<script>alert('name')</script>",
        generator.normal(size=(60, 1)),
        np.array(["<b>", "</script><img src=x>"] * 30),
        columns=["<script>alert('column')</script>"],
        target_name="<i>target</i>",
        notes=("a note with <b>markup</b>",),
    )
    result = lossary.compare(data, objectives=["squentropy"], store=None, **QUICK)
    page = result.report(tmp_path / "report.html").read_text()
    assert "alert('name')" not in page
    assert "<b>markup</b>" not in page
    assert "<i>target" not in page
    assert result.answer.sentence.split("better than")[0] in page
    assert result.protocol.digest in page
    outside = re.sub(
        r"<script>.*?</script>", "", page, flags=re.S
    )  # the drawing library mentions addresses, the page itself must not
    assert not re.search(r"(src|href)\s*=", outside)
    assert "http" not in outside


class Hungry(lossary.SoftmaxObjective):
    """Cross-entropy that fills 200 MB on the way."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        filling = torch.empty(50_000_000)
        return lossary.functional.cross_entropy(logits, target) + 0 * filling[0].detach()


@pytest.mark.usefixtures("registry")
def test_memory_is_that_of_each_objective() -> None:
    @lossary.formula
    def hungry(logits: Tensor, target: Tensor) -> Tensor:
        return lossary.functional.cross_entropy(logits, target)

    lossary.objective(family="classification", function=hungry, vmap=False)(Hungry)
    result = lossary.compare("wine", objectives=["focal", "hungry", "squentropy"], store=None, **{**QUICK, "epochs": 1})
    used = {row.candidate.label: row.peak_memory for row in result.leaderboard}
    assert 199e6 < used["hungry"] - used["cross_entropy"] < 205e6
    for label in ("cross_entropy", "focal", "squentropy"):  # also those that came after it in the same process
        assert 0 < used[label] < 1e6
    again = lossary.compare("wine", objectives=["squentropy"], store=None, **{**QUICK, "epochs": 1})
    assert {row.candidate.label: row.peak_memory for row in again.leaderboard}["squentropy"] == used["squentropy"]


def test_calibration_can_decide() -> None:
    result = lossary.compare("wine", objectives=["focal"], metric="smooth_calibration_error", store=None, **QUICK)
    for row in result.leaderboard:
        assert row.mean == row.calibration["smooth_calibration_error"] == row.test["smooth_calibration_error"]
    best, other = result.leaderboard
    assert best.mean <= other.mean


def test_compare_and_the_protocol_take_the_same_settings() -> None:
    settings = inspect.signature(make_protocol).parameters
    taken = inspect.signature(lossary.compare).parameters
    for name, parameter in settings.items():
        assert (parameter.default, parameter.kind) == (taken[name].default, taken[name].kind), name
