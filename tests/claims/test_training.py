"""Trainings of arms: paired, changed where they say so and nowhere else, kept when finished."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lossary.arena import Data
from lossary.arena.train.store import Store
from lossary.arena.train.unit_of_work import run_unit
from lossary.claims import (
    Claim,
    Few,
    Generated,
    InputNoise,
    LabelNoise,
    Real,
    Training,
    against_rest,
    higher,
    label_rows,
    lower,
    only,
    pixels,
    run,
)
from lossary.claims import _training as module
from lossary.errors import InvalidValueError, UnknownNameError

RULES = (
    higher("accuracy", "squentropy", than="cross_entropy"),
    lower("smooth_calibration_error", "squentropy", than="cross_entropy"),
)


def training(**changes: Any) -> Training:
    values: dict[str, Any] = {
        "title": "small",
        "data": Real("wine"),
        "arms": ("squentropy", "cross_entropy"),
        "rules": RULES,
        "epochs": 3,
        "batch_size": 20,
        "seeds": 5,
        "hidden": 8,
    }
    return Training(**{**values, **changes})


def claim(*experiments: Training) -> Claim:
    return Claim(paper="squentropy", statement="It is so.", experiments=experiments, seconds=10)


def nothing(what: str, done: int, whole: int) -> None:
    pass


def test_numbers_findings_and_a_verdict(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    outcome = run(claim(training()), store=tmp_path / "claims.sqlite", tell=lambda _, done, whole: told.append((done, whole)))
    (result,) = outcome.results
    assert set(result.values) == {"accuracy", "smooth_calibration_error"}
    for arms in result.values.values():
        assert {name: values.shape for name, values in arms.items()} == {"squentropy": (5,), "cross_entropy": (5,)}
    accuracy = result.values["accuracy"]
    finding = result.findings[0]
    assert finding.difference == pytest.approx(float((accuracy["squentropy"] - accuracy["cross_entropy"]).mean()))
    assert outcome.verdict in ("held", "not held", "not decided")
    assert told[-1] == (1000, 1000)
    assert told == sorted(told)
    assert (tmp_path / "squentropy.claim.json").is_file()


def test_an_arm_under_another_name_is_the_same_to_the_last_bit(tmp_path: Path) -> None:
    """Splits, first weights, batches and the changes of the data are shared, so only the objective can make a difference."""
    arms = {"squentropy": "polyloss(epsilon=0.0)", "cross_entropy": "cross_entropy"}
    found = training(arms=arms, train=(LabelNoise(0.3),), test=(InputNoise(0.5),)).measure(Store(tmp_path / "s"), nothing)
    np.testing.assert_allclose(found.values["accuracy"]["squentropy"], found.values["accuracy"]["cross_entropy"], atol=1e-6)
    assert np.ptp(found.values["accuracy"]["cross_entropy"]) > 0  # and seeds differ


def test_steps_change_their_part_only() -> None:
    plain = training().splits()
    noisy = training(train=(LabelNoise(0.3), Few(60)), test=(InputNoise(0.5),)).splits()
    for before, after in zip(plain, noisy, strict=True):
        assert len(after.train.truth) == 60
        assert torch.equal(before.validation.features, after.validation.features)
        np.testing.assert_array_equal(before.validation.truth, after.validation.truth)
        np.testing.assert_array_equal(before.test.truth, after.test.truth)
        assert not torch.equal(before.test.features, after.test.features)
    assert not np.array_equal(noisy[0].test.features, noisy[1].test.features)


def test_an_interrupted_claim_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(claim(training()), store=None)
    trained: list[str] = []
    original: Callable[..., Any] = run_unit

    def stop_at_the_second(plan: Any, candidate: Any, *rest: Any) -> Any:
        if trained:
            raise KeyboardInterrupt
        trained.append(candidate.label)
        return original(plan, candidate, *rest)

    monkeypatch.setattr(module, "run_unit", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        run(claim(training()), store=tmp_path / "claims.sqlite")
    assert trained == ["squentropy"]

    def train_the_other(plan: Any, candidate: Any, *rest: Any) -> Any:
        assert candidate.label == "cross_entropy"
        return original(plan, candidate, *rest)

    monkeypatch.setattr(module, "run_unit", train_the_other)
    resumed = run(claim(training()), store=tmp_path / "claims.sqlite")
    assert not resumed.reused
    for quantity, arms in whole.results[0].values.items():
        for arm, values in arms.items():
            np.testing.assert_array_equal(resumed.results[0].values[quantity][arm], values)

    monkeypatch.setattr(module, "run_unit", None)  # the third time nothing is trained
    again = run(claim(training()), store=tmp_path / "claims.sqlite")
    assert again.reused
    assert again.seconds == pytest.approx(resumed.seconds)


@pytest.mark.parametrize(
    "change",
    [
        {"seeds": 6},
        {"epochs": 4},
        {"train": (Few(50),)},
        {"test": (InputNoise(0.1),)},
        {"rules": RULES[:1]},
        {"rules": (RULES[0], lower("smooth_calibration_error", "squentropy", than="cross_entropy", by=1e-4))},
        {"arms": ("squentropy", "cross_entropy", "focal")},
        {"data": Real("iris")},
        {"learning_rates": (1e-3,)},
        {"measures": {"smooth_calibration_error": lambda truth, prediction: 0.0}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_digest_changes_with_the_protocol(change: dict[str, Any]) -> None:
    assert claim(training()).digest == claim(training()).digest
    assert claim(training(**change)).digest != claim(training()).digest


def test_steps_of_one_name_and_other_values_are_kept_apart(tmp_path: Path) -> None:
    store = Store(tmp_path / "s")
    few = training(train=(Few(50),)).measure(store, nothing)
    more = training(train=(Few(60),)).measure(store, nothing)
    assert not more.reused
    assert not np.array_equal(
        few.values["smooth_calibration_error"]["cross_entropy"], more.values["smooth_calibration_error"]["cross_entropy"]
    )


def test_an_arm_of_several_is_for_each_seed_what_validation_prefers(tmp_path: Path) -> None:
    arms = {"squentropy": ("squentropy", "dual_focal"), "cross_entropy": "cross_entropy"}
    chosen = training(arms=arms).measure(Store(tmp_path / "s"), nothing).values["smooth_calibration_error"]["squentropy"]
    apart = training(arms=("squentropy", "dual_focal", "cross_entropy")).measure(Store(tmp_path / "s"), nothing)
    assert apart.reused  # its members are the same work
    first, second = (apart.values["smooth_calibration_error"][name] for name in ("squentropy", "dual_focal"))
    assert all(value in (one, other) for value, one, other in zip(chosen, first, second, strict=True))


def test_a_measure_of_ones_own_sees_truth_and_probabilities(tmp_path: Path) -> None:
    seen: list[tuple[Any, Any]] = []

    def own(truth: Any, prediction: Any) -> float:
        seen.append((truth, prediction))
        return float(len(truth))

    rules = (higher("own", "squentropy", than="cross_entropy"),)
    training(rules=rules, measures={"own": own}).measure(Store(tmp_path / "s"), nothing)
    truth, prediction = seen[0]
    assert truth.shape == (36,)
    assert prediction.shape == (36, 3)
    np.testing.assert_allclose(prediction.sum(1), 1, atol=1e-5)


def generated(seed: int) -> Data:
    return label_rows(seed, rows=200, labels=6, each=2)


def test_generated_data_are_new_for_each_seed(tmp_path: Path) -> None:
    one = training(
        data=Generated(generated),
        arms=("asymmetric", "binary_cross_entropy"),
        rules=(higher("f1_macro", "asymmetric", than="binary_cross_entropy"),),
    )
    assert one.ratio == 0.0
    assert training().ratio == pytest.approx(0.25)
    splits = one.splits()
    assert not np.array_equal(splits[0].train.features[0], splits[1].train.features[0])
    assert np.isfinite(one.measure(Store(tmp_path / "s"), nothing).values["f1_macro"]["asymmetric"]).all()
    assert (generated(0).target.sum(1) == 2).all()
    frequent = generated(0).target.mean(0)
    assert frequent[0] > frequent[-1]


def test_parts_of_a_data_set() -> None:
    images = Real("digits", (pixels,)).data
    assert images.images is not None
    assert images.images.shape == (1797, 1, 8, 8)
    eights = Real("digits", (pixels, against_rest(8))).data
    assert (eights.task.kind, int(eights.target.sum())) == ("binary", int((images.target == 8).sum()))
    pair = Real("digits", (only(3, 8),)).data
    assert pair.rows == int(np.isin(images.target, (3, 8)).sum())
    assert pair.fingerprint != Real("digits", (only(3, 5),)).data.fingerprint


def test_mistakes_are_found_before_any_training() -> None:
    with pytest.raises(InvalidValueError, match=r"a rule names the arm 'focal' \(there are squentropy, cross_entropy\)"):
        training(rules=(higher("accuracy", "focal", than="cross_entropy"),))
    with pytest.raises(UnknownNameError, match="there is no metric 'acuracy' for a multiclass task; did you mean 'accuracy'"):
        training(rules=(higher("acuracy", "squentropy", than="cross_entropy"),)).protocol()
    with pytest.raises(UnknownNameError, match="there is no objective named 'squentropi'"):
        training(arms={"squentropy": "squentropi", "cross_entropy": "cross_entropy"}).protocol()
    with pytest.raises(InvalidValueError, match="a multiclass task takes objectives of the family classification"):
        training(arms={"squentropy": "asymmetric", "cross_entropy": "cross_entropy"}).protocol()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"seconds": 121}, "seconds must be from 1 to 120, got 121"),
        ({"statement": " "}, "it needs a statement and at least one rule"),
        ({"experiments": ()}, "it needs a statement and at least one rule"),
        ({"experiments": (training(seeds=3),)}, "seeds must be at least 5, or 1 where nothing is left to chance, got 3"),
    ],
)
def test_a_claim_that_says_too_little_is_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidValueError, match=sentence):
        replace(claim(training()), **change)


def test_several_rules_share_the_error() -> None:
    assert claim(training()).confidence == pytest.approx(0.975)
    assert claim(training(), training()).confidence == pytest.approx(0.9875)
