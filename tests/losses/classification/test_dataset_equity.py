"""What is true of DatasetEquity alone; the conformance suite does the rest."""

import pytest
import torch
from torch import Tensor

from lossary import LossaryError
from lossary.losses.classification.cross_entropy import cross_entropy
from lossary.losses.classification.dataset_equity import DatasetEquityLoss, dataset_equity
from lossary.losses.classification.focal import focal
from lossary.testing import CHECKS, check_objective

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(6, 3, generator=GENERATOR, dtype=torch.float64)
TARGET = torch.randint(3, (6,), generator=GENERATOR)
LIKELIHOOD = torch.tensor([0.0, 0.05, 0.3, 0.5, 0.95, 1.0], dtype=torch.float64)


@pytest.mark.parametrize(("base", "plain"), [("cross_entropy", cross_entropy), ("focal", focal)])
def test_matches_a_loop(base: str, plain: object) -> None:
    assert callable(plain)
    expected = []
    for cost, p in zip(plain(LOGITS, TARGET, reduction="none").tolist(), LIKELIHOOD.tolist(), strict=True):
        expected.append(cost * (0.3 + (1 - p) ** 2) / 1.3)
    given = {"eta": 0.3, "gamma": 2.0, "base": base}
    value = dataset_equity(LOGITS, TARGET, LIKELIHOOD, reduction="none", **given)  # type: ignore[arg-type]
    torch.testing.assert_close(value, LOGITS.new_tensor(expected))
    mean = dataset_equity(LOGITS, TARGET, LIKELIHOOD, **given)  # type: ignore[arg-type]
    assert mean.item() == pytest.approx(sum(expected) / 6)  # not divided by the sum of the weights


def weights(eta: float, gamma: float = 5.0) -> Tensor:
    plain = cross_entropy(LOGITS, TARGET, reduction="none")
    return dataset_equity(LOGITS, TARGET, LIKELIHOOD, eta=eta, gamma=gamma, reduction="none") / plain


def test_limits_of_the_weight() -> None:
    assert weights(0.5)[0].item() == pytest.approx(1.0)
    assert weights(0.5)[5].item() == pytest.approx(0.5 / 1.5)
    torch.testing.assert_close(weights(0.5, gamma=0.0), torch.ones(6, dtype=torch.float64))
    torch.testing.assert_close(weights(1e9), torch.ones(6, dtype=torch.float64))
    assert (weights(0.5).diff() < 0).all()
    assert weights(0.0)[5] == 0
    ratio = weights(1.0)[1] / weights(1.0)[4]  # clusters of 5 % and 95 %
    assert ratio.item() == pytest.approx(1.77, abs=0.01)


def test_a_table_is_looked_up_by_index() -> None:
    loss = DatasetEquityLoss(likelihood=LIKELIHOOD)
    assert loss.requires == ("index",)
    assert DatasetEquityLoss.requires == DatasetEquityLoss().requires == ("likelihood",)
    index = torch.tensor([5, 0, 3, 3, 1, 2])
    assert loss(LOGITS, TARGET, index=index) == dataset_equity(LOGITS, TARGET, LIKELIHOOD[index])
    assert loss(LOGITS, TARGET, index=index.to(torch.uint8)) == loss(LOGITS, TARGET, index=index)  # and is no mask
    assert "likelihood" in loss.state_dict()
    assert repr(DatasetEquityLoss(likelihood=torch.full((1000,), 0.5))) == (
        "DatasetEquityLoss(eta=1.0, gamma=5.0, likelihood=<(1000,): 0.5, ..., 0.5>, base='cross_entropy', ignore_index=-100, "
        "reduction='mean')"
    )


def test_the_suite_passes_with_a_table_too() -> None:
    table = torch.rand(100, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    # not: repr and the pure function, which have no table, and what is slow
    skipped = ("repr_shows_parameters", "function_is_module", "half_precision_maps", "compiles_whole", "distributed_data_parallel")
    checks = [check for check in CHECKS if check not in skipped]
    card = check_objective("dataset_equity", parameters={"likelihood": table}, only=checks)
    assert card.passed, card
    assert card.counts["passed"] > 25


@pytest.mark.parametrize(
    ("loss", "sides", "message"),
    [
        (DatasetEquityLoss(), {}, "likelihood must be a tensor where there is no table of it, got None"),
        (DatasetEquityLoss(likelihood=LIKELIHOOD), {}, "index must be a tensor where likelihood is looked up, got None"),
        (DatasetEquityLoss(likelihood=LIKELIHOOD), {"index": LIKELIHOOD}, "index must be integers"),
        (DatasetEquityLoss(), {"likelihood": LIKELIHOOD[:3]}, r"likelihood must have shape \(6,\), got \(3,\)"),
    ],
)
def test_bad_input_is_one_sentence(loss: DatasetEquityLoss, sides: dict[str, Tensor], message: str) -> None:
    with pytest.raises(LossaryError, match=f"^dataset_equity: {message}"):
        loss(LOGITS, TARGET, **sides)


def test_a_table_has_one_dimension() -> None:
    with pytest.raises(LossaryError, match=r"^dataset_equity: likelihood must have shape \(6,\), got \(2, 3\)"):
        DatasetEquityLoss(likelihood=LIKELIHOOD.view(2, 3))
