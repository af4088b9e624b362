"""Computations: seeds one by one, kept when finished, taken again only while the code is the same."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from lossary.arena.code import modules_of
from lossary.claims import TEST_SHARE, Claim, Computation, Real, fit, higher, lower, mlp, run, same, split_of
from lossary.errors import InvalidValueError

RULES = (higher("value", "one", than="other"),)
calls: list[int] = []


def numbers(seed: int) -> dict[str, dict[str, float]]:
    calls.append(seed)
    if seed == 3 and len(calls) == 4:
        raise KeyboardInterrupt
    return {"one": {"value": float(torch.randn(()))}, "other": {"value": -1.0}}


def computation(function: object = numbers, **changes: object) -> Computation:
    values: dict[str, object] = {"title": "t", "function": function, "rules": RULES, "seeds": 6, "description": "d."}
    return Computation(**{**values, **changes})  # type: ignore[arg-type]


def claim(experiment: Computation) -> Claim:
    return Claim(paper="squentropy", statement="It is so.", experiments=(experiment,), seconds=10)


def test_finished_seeds_are_kept(tmp_path: Path) -> None:
    calls.clear()
    state = torch.random.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        run(claim(computation()), store=tmp_path / "s")
    assert calls == [0, 1, 2, 3]
    outcome = run(claim(computation()), store=tmp_path / "s")
    assert calls == [0, 1, 2, 3, 3, 4, 5]
    assert not outcome.reused
    again = run(claim(computation()), store=tmp_path / "s")
    assert again.reused
    assert len(calls) == 7
    expected = [float(torch.randn((), generator=torch.Generator().manual_seed(seed))) for seed in range(6)]
    np.testing.assert_allclose(again.results[0].values["value"]["one"], expected)
    assert torch.equal(state, torch.random.get_rng_state())  # the caller's chance is the caller's


def test_more_seeds_only_add(tmp_path: Path) -> None:
    calls.clear()
    calls.extend([0] * 10)
    run(claim(computation(seeds=5)), store=tmp_path / "s")
    run(claim(computation(seeds=7)), store=tmp_path / "s")
    assert calls[10:] == [0, 1, 2, 3, 4, 5, 6]


def test_without_chance_one_seed_decides() -> None:
    def exact(seed: int) -> dict[str, dict[str, float]]:
        return {"fast": {"iterations": 2}, "slow": {"iterations": 451}}

    rules = (lower("iterations", "fast", than="slow", times=0.1), same("iterations", "fast", than=2, within=0.5))
    outcome = run(claim(computation(exact, rules=rules, seeds=1)), store=None)
    assert outcome.verdict == "held"
    assert outcome.results[0].described == "d. Nothing is left to chance."


def test_seeds_that_test_on_shared_rows_are_not_independent() -> None:
    assert computation().ratio == 0
    assert computation(shared=TEST_SHARE).ratio == pytest.approx(0.25)
    with pytest.raises(InvalidValueError, match="shared must be a number from 0 to below 1, got 1"):
        computation(shared=1)


def test_seeds_have_to_give_the_same_arms() -> None:
    def odd(seed: int) -> dict[str, dict[str, float]]:
        return {"one": {"value": 1.0}, **({"other": {"value": 2.0}} if seed else {})}

    with pytest.raises(InvalidValueError, match="every seed must give the same arms and quantities"):
        run(claim(computation(odd)), store=None)


@pytest.fixture
def module(tmp_path: Path) -> Iterator[ModuleType]:
    path = tmp_path / "written_claim.py"
    path.write_text(
        "import lossary\nfrom lossary import create\n\ndef f(seed):\n    create('focal'), lossary.metrics.smooth_ece\n"
        "    return {'one': {'value': seed}, 'other': {'value': 0}}\n"
    )
    found = importlib.util.spec_from_file_location("written_claim", path)
    assert found is not None
    assert found.loader is not None
    made = importlib.util.module_from_spec(found)
    sys.modules["written_claim"] = made
    found.loader.exec_module(made)
    yield made
    del sys.modules["written_claim"]


def test_the_code_is_what_a_computation_uses_and_nothing_else(module: ModuleType) -> None:
    reached = modules_of("lossary.claims._computation", module.f)
    used = {"losses.classification.focal", "metrics.smooth_ece", "_core.objective", "_core.registry", "claims._computation"}
    assert {"written_claim", *(f"lossary.{name}" for name in used)} <= reached
    unused = [
        name
        for name in reached
        if "squentropy" in name or name.startswith(("lossary.catalogue", "lossary.arena.train.unit_of_work"))
    ]
    assert not [*unused, *reached & {"lossary.claims._rules", "lossary.claims._claim"}]


def test_edited_code_is_run_again(module: ModuleType, tmp_path: Path) -> None:
    one = computation(module.f)
    assert not run(claim(one), store=tmp_path / "s").reused
    assert run(claim(one), store=tmp_path / "s").reused
    file = Path(str(module.__file__))
    file.write_text(f"{file.read_text()}# another line\n")
    assert not run(claim(one), store=tmp_path / "s").reused


def test_the_loop_learns_and_is_paired() -> None:
    split = split_of(Real("digits"), 1, 5)
    features, target = split.train.features, split.train.target
    weights = []
    for _ in range(2):
        model = mlp(1, 64, 32, 10)

        def loss(batch: torch.Tensor, model: torch.nn.Module = model) -> torch.Tensor:
            return torch.nn.functional.cross_entropy(model(features[batch]), target[batch])

        fit(model.parameters(), loss, len(target), epochs=5, batch_size=50, seed=1)
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(weights[0], weights[1])
    with torch.no_grad():
        assert float((model(split.test.features).argmax(1) == split.test.target).float().mean()) > 0.9
