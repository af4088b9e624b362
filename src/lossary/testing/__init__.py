"""The conformance suite: what every objective here keeps, as checks that run on anybody's loss.

From the command line, ``lossary check my_losses:MyLoss``. From the tests of another package::

    from lossary.testing import CHECKS, run_check, subject_of
    SUBJECT = subject_of(MyLoss)
    @pytest.mark.parametrize("check", CHECKS)
    def test_my_loss(check): run_check(check, SUBJECT).verify()

A check that does not apply to a loss is a skip with its reason, and a card counts it apart. A registered objective that cannot
meet a check waives it where it is registered, with the reason. A waiver that is no longer needed is itself a failure.

Optimizers, layers and metrics have suites of their own, with the same cards: ``check_optimizer(MyOptimizer)``,
``check_layer(MyLayer)`` and ``check_metric(my_metric)``.
"""

from lossary._core.values import check_values
from lossary.testing._card import Card, Result
from lossary.testing._detect import subject_of
from lossary.testing._inputs import Inputs
from lossary.testing._layers import check_layer
from lossary.testing._metrics import check_metric
from lossary.testing._optimizers import check_optimizer
from lossary.testing._subject import Failed, NotApplicable, Subject
from lossary.testing._suite import CHECKS, check_objective, describe, run_check
from lossary.testing._suites import SUITES, kind_of

__all__ = [
    "CHECKS",
    "SUITES",
    "Card",
    "Failed",
    "Inputs",
    "NotApplicable",
    "Result",
    "Subject",
    "check_layer",
    "check_metric",
    "check_objective",
    "check_optimizer",
    "check_values",
    "describe",
    "kind_of",
    "run_check",
    "subject_of",
]
