"""The contract: every check of ``lossary.testing`` on every registered objective, one test for each pair."""

import functools

import pytest

from lossary import specs
from lossary.testing import CHECKS, Subject, run_check, subject_of

OBJECTIVES = sorted(specs())


@functools.cache
def subject(objective: str) -> Subject:
    return subject_of(objective)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_contract(objective: str, check: str) -> None:
    result = run_check(check, subject(objective))
    assert result.status != "failed", f"{objective}: {check}: {result.detail}"


def test_there_is_something_to_check() -> None:
    assert OBJECTIVES
    assert len(CHECKS) > 30
