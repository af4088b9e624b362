"""Every check catches a loss that breaks its rule, and the other checks leave that loss alone."""

import pytest
import torch
from tests.testing.broken_families import HONEST
from tests.testing.broken_losses import BROKEN

from lossary import LossaryError, specs
from lossary.testing import CHECKS, _distributed, check_objective, run_check, subject_of

SLOW = ("half_precision_maps", "compiles_whole")  # run where they are the point


@pytest.mark.parametrize("name", [name for name in BROKEN if name != "hangs_when_distributed"])
def test_a_broken_loss_fails_its_check_and_no_other(name: str) -> None:
    case = BROKEN[name]
    card = check_objective(case.spec, only=[check for check in CHECKS if check == case.check or check not in SLOW])
    failed = {result.check: result.detail for result in card.failures}
    assert set(failed) == {case.check} | case.also, failed
    assert all(len(detail) > 10 for detail in failed.values())


@pytest.mark.parametrize("name", HONEST)
def test_a_loss_without_a_fault_passes(name: str) -> None:
    card = check_objective(HONEST[name])
    assert not card.failures, card.failures
    assert card.counts["passed"] >= 20


def test_every_check_has_a_loss_that_it_catches() -> None:
    assert {case.check for case in BROKEN.values()} == set(CHECKS)


def test_broken_losses_are_not_registered() -> None:
    assert not {*BROKEN, *HONEST} & set(specs())


def test_a_process_that_hangs_is_a_failure_and_the_next_job_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    check_objective("cross_entropy", only=["distributed_data_parallel"])  # the processes are up before the short time-out counts
    with monkeypatch.context() as short:
        short.setattr(_distributed, "TIMEOUT", 2.0)
        card = check_objective(BROKEN["hangs_when_distributed"].spec, only=["distributed_data_parallel"])
    assert not card.passed
    assert "no answer within 2 seconds" in card.results[0].detail
    assert check_objective("cross_entropy", only=["distributed_data_parallel"]).passed


@pytest.mark.parametrize(
    ("name", "check", "numbers"),
    [
        ("half_the_gradient", "gradcheck_float64", "where the numerical derivative is"),
        ("set_loss_called_exact", "distributed_data_parallel", "gradient factor"),
        ("mean_counts_ignored", "ignored_is_absent", "instead of"),
        ("clamped_probabilities", "useful_gradient", "pull 0 of the largest"),
        ("computes_in_half", "half_precision_accuracy", "units in the last place"),
    ],
)
def test_a_failure_names_the_numbers(name: str, check: str, numbers: str) -> None:
    assert numbers in check_objective(BROKEN[name].spec, only=[check]).results[0].detail


def test_a_waiver_turns_a_failure_into_a_waived_check_and_a_needless_one_is_stale() -> None:
    from dataclasses import replace

    reason = "the mean counts every sample, as its paper has it"
    needed = replace(BROKEN["mean_counts_ignored"].spec, waivers={"ignored_is_absent": reason})
    card = check_objective(needed, only=["ignored_is_absent"])
    assert card.passed
    assert card.counts == {"passed": 0, "failed": 0, "waived": 1, "not applicable": 0}
    assert card.results[0].detail.startswith(reason)
    for check in ("permutation_of_the_batch", "special_cases"):  # one that passes, and one that does not apply
        stale = run_check(check, subject_of(replace(needed, waivers={check: "there is no reason"})))
        assert stale.status == "failed"
        assert "stale" in stale.detail


def test_the_suite_leaves_global_state_alone() -> None:
    before = torch.get_rng_state(), torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads()
    check_objective("focal")
    check_objective(BROKEN["draws_a_random_number"].spec, only=["leaves_no_trace"])
    after = torch.get_rng_state(), torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_the_same_loss_gives_the_same_card_twice() -> None:
    only = [check for check in CHECKS if check not in SLOW]
    first, second = (check_objective("dual_focal", only=only).to_dict() for _ in range(2))
    for card in (first, second):
        for result in card["results"]:
            del result["seconds"]
    assert first == second


def test_unknown_checks_are_refused_with_a_suggestion() -> None:
    with pytest.raises(LossaryError, match="did you mean 'empty_batch'"):
        check_objective("focal", only=["emptybatch"])
