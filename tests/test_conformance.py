"""The contract: every check of ``lossary.testing`` on every registered objective, one test for each objective."""

import pytest

from lossary import specs
from lossary.testing import CHECKS, run_check, subject_of

OBJECTIVES = sorted(specs())


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_contract(objective: str, subtests: pytest.Subtests) -> None:
    subject = subject_of(objective)
    for check in CHECKS:
        result = run_check(check, subject)
        if result.status != "passed":  # a skip with its reason, or a failure, is reported by the name of its check
            with subtests.test(check):
                result.verify()


def test_there_is_something_to_check() -> None:
    assert OBJECTIVES
    assert len(CHECKS) > 30
