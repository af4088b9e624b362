"""The contract: every check of ``lossary.testing`` on every registered objective, one test for each objective."""

import sys
from types import ModuleType

import pytest

from lossary import Spec, specs
from lossary.testing import CHECKS, run_check, subject_of

OBJECTIVES = sorted(specs())
# A second or more each; what they show of one loss, they show of every loss of the same mechanism.
COSTLY = ("compiles_whole",)
NO_MECHANISM = ("_checks", "_core", "_domains", "_objective", "_registry")


def mechanism(spec: Spec) -> tuple[str, frozenset[str]]:
    """The family of a loss, and the private modules outside of the families that its own module imports from."""
    named = vars(sys.modules[spec.cls.__module__]).values()
    modules = {value.__name__ if isinstance(value, ModuleType) else str(getattr(value, "__module__", "")) for value in named}
    shared = {module.removeprefix("lossary.") for module in modules if module.startswith("lossary._")}
    return spec.family, frozenset(module for module in shared if not module.startswith(NO_MECHANISM))


def first_of_each_mechanism() -> set[str]:
    first: dict[tuple[str, frozenset[str]], str] = {}
    for name in OBJECTIVES:
        first.setdefault(mechanism(specs()[name]), name)
    return set(first.values())


FIRST = first_of_each_mechanism()


def keeps(objective: str, checks: list[str], subtests: pytest.Subtests) -> None:
    subject = subject_of(objective)
    for check in checks:
        result = run_check(check, subject)
        if result.status != "passed":  # a skip with its reason, or a failure, is reported by the name of its check
            with subtests.test(check):
                result.verify()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_contract(objective: str, subtests: pytest.Subtests) -> None:
    keeps(objective, [check for check in CHECKS if check not in COSTLY], subtests)


@pytest.mark.parametrize(
    "objective", [name if name in FIRST else pytest.param(name, marks=pytest.mark.thorough) for name in OBJECTIVES]
)
def test_costly_part_of_the_contract(objective: str, subtests: pytest.Subtests) -> None:
    keeps(objective, list(COSTLY), subtests)


def test_there_is_something_to_check() -> None:
    assert OBJECTIVES
    assert len(CHECKS) > 30
    assert 10 < len(FIRST) < len(OBJECTIVES) / 2
    assert {specs()[name].family for name in FIRST} == {spec.family for spec in specs().values()}
