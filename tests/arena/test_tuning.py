"""The tuning budget is the same for every objective, written down before training, and used on validation data only."""

from typing import Any

import numpy as np
import pytest
import torch

import lossary
from lossary.arena import load
from lossary.arena.plan.protocol import make_protocol
from lossary.arena.plan.tuning import draw, parameters_of, rates_of
from lossary.arena.tasks import Candidate, build
from lossary.errors import InvalidValueError, LossaryError

QUICK: dict[str, Any] = {"seeds": 2, "epochs": 3, "hidden": 8}


@pytest.mark.parametrize("sampler", ["qmc", "random"])
def test_points_fill_the_cube_and_are_the_same_every_time(sampler: str) -> None:
    points = draw(16, 2, sampler)
    assert points == draw(16, 2, sampler)
    values = np.array(points)
    assert values.shape == (16, 2)
    assert ((values >= 0) & (values <= 1)).all()
    assert (np.diff(values[:, 0]) >= 0).all()  # rates ascend, so that ties can go to the smaller
    assert abs(np.corrcoef(values.T)[0, 1]) < 0.6  # the coordinates do not go together


def test_quasi_random_points_leave_no_half_empty() -> None:
    values = np.array(draw(16, 3, "qmc"))
    assert (abs((values >= 0.5).sum(0) - 8) <= 1).all()


def test_points_become_rates_and_parameters() -> None:
    points = ((0.0, 0.5), (1.0, 0.25))
    assert rates_of(points, 1e-4, 1e-2) == (1e-4, 1e-2)
    assert parameters_of(points, {"gamma": (0.0, 4.0)}, []) == ({"gamma": 2.0}, {"gamma": 1.0})
    assert parameters_of(points, {"gamma": (0.0, 4.0)}, ["gamma"]) == ({}, {})


def test_every_objective_gets_the_same_number_of_trials_and_the_same_rates() -> None:
    protocol = make_protocol(load("wine"), objectives=["focal", "squentropy", "focal(gamma=1.0)"], trials=6)
    assert len(protocol.learning_rates) == 6
    own = {candidate.label: protocol.trials(candidate) for candidate in protocol.candidates}
    assert all(len(trials) == 6 for trials in own.values())
    assert all(0.5 <= trial["gamma"] <= 5.0 for trial in own["focal"])
    assert len({trial["gamma"] for trial in own["focal"]}) == 6
    assert own["squentropy"] == ({},) * 6  # it has none: all its trials are learning rates
    assert own["focal(gamma=1.0)"] == ({},) * 6  # fixed by the user
    assert protocol.to_dict()["own_parameters"]["focal"] == list(own["focal"])


def test_declared_ranges_are_allowed_values() -> None:
    facts = {"num_classes": 3, "embedding_dim": 4, "feature_dim": 4, "num_samples": 5, "class_counts": torch.tensor([2, 2, 1])}
    for name, spec in lossary.specs().items():
        for parameter, bounds in spec.tune.items():
            for value in bounds:
                build(Candidate(name), {parameter: value}, facts)


def test_a_tuned_comparison_is_measured_and_resumed(tmp_path) -> None:  # type: ignore[no-untyped-def]
    store = tmp_path / "arena.sqlite"
    first = lossary.compare("wine", objectives=["focal", "squentropy"], trials=4, store=store, **QUICK)
    for unit in first.units:
        assert unit.validation.shape == (2, 4)
        assert np.isfinite(unit.validation).all()
        assert unit.losses.shape == (2, 4, 3)
        assert unit.curve.shape == (2, 4, len(unit.curve_epochs))
    again = lossary.compare("wine", objectives=["focal", "squentropy"], trials=4, store=store, **QUICK)
    assert all(unit.reused for unit in again.units)
    np.testing.assert_array_equal(first.units[1].predictions, again.units[1].predictions)


def test_a_trial_is_trained_as_if_it_were_alone() -> None:
    """Grouping trials by their parameters must not mix them up."""
    tuned = lossary.compare("wine", objectives=["focal"], trials=3, store=None, **QUICK)
    protocol = tuned.protocol
    unit = next(unit for unit in tuned.units if unit.candidate.objective == "focal")
    for place, own in enumerate(protocol.trials(Candidate("focal"))):
        label = f"focal(gamma={own['gamma']!r})"
        alone = lossary.compare("wine", objectives=[label], learning_rates=[protocol.learning_rates[place]], store=None, **QUICK)
        other = next(unit for unit in alone.units if unit.candidate.objective == "focal")
        np.testing.assert_allclose(unit.losses[:, place], other.losses[:, 0], rtol=1e-4)


def test_mistakes(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidValueError, match="compare: trials must be an integer >= 0, got -1"):
        lossary.compare("wine", trials=-1, store=None)
    with pytest.raises(InvalidValueError, match="compare: sampler must be 'qmc' or 'random', got 'grid'"):
        lossary.compare("wine", trials=2, sampler="grid", store=None)
    import sys

    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(LossaryError, match=r"needs Optuna; install it with: pip install 'lossary\[tuning\]'"):
        lossary.compare("wine", trials=2, store=None)
