"""The conformance suite: what every objective here keeps, as checks that run on anybody's loss.

From the command line, ``lossary check my_losses:MyLoss``. From the tests of another package::

    from lossary.testing import CHECKS, check_objective
    @pytest.mark.parametrize("check", CHECKS)
    def test_my_loss(check): assert check_objective(MyLoss, only=[check]).passed

A check that says nothing about a loss is counted as "not applicable", with the reason; a registered objective that cannot meet a
check waives it where it is registered, with the reason, and a waiver that is no longer needed is itself a failure.
"""

from lossary.testing._card import Card, Result
from lossary.testing._detect import subject_of
from lossary.testing._inputs import Inputs
from lossary.testing._subject import Failed, NotApplicable, Subject
from lossary.testing._suite import CHECKS, check_objective, describe, run_check

__all__ = [
    "CHECKS",
    "Card",
    "Failed",
    "Inputs",
    "NotApplicable",
    "Result",
    "Subject",
    "check_objective",
    "describe",
    "run_check",
    "subject_of",
]
