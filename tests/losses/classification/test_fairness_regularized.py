"""What is true of the fairness-regularised loss alone; what it shares with the worst-group loss is tested there."""

import pytest
import torch

from lossary.losses.classification.cross_entropy import cross_entropy
from lossary.losses.classification.fairness_regularized import fairness_regularized

GROUP = torch.tensor([1, 0, 1, 2, 0, 1])
GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(6, 3, generator=GENERATOR, dtype=torch.float64) * 2
TARGET = torch.randint(3, (6,), generator=GENERATOR)


@pytest.mark.parametrize(("penalty", "power"), [("gap", 1), ("variance", 2)])
def test_matches_a_loop_over_groups(penalty: str, power: int) -> None:
    costs = cross_entropy(LOGITS, TARGET, reduction="none").tolist()
    mean = sum(costs) / 6
    apart = 0.0
    for group in range(3):
        own = [cost for cost, g in zip(costs, GROUP.tolist(), strict=True) if g == group]
        apart += abs(sum(own) / len(own) - mean) ** power / 3
    value = fairness_regularized(LOGITS, TARGET, GROUP, regularization=2.5, penalty=penalty)  # type: ignore[arg-type]
    assert value.item() == pytest.approx(mean + 2.5 * apart)
    total = fairness_regularized(LOGITS, TARGET, GROUP, penalty=penalty, reduction="sum")  # type: ignore[arg-type]
    assert total.item() == pytest.approx(6 * (mean + apart))


def test_the_gap_has_no_gradient_where_the_groups_are_level() -> None:
    logits = torch.zeros(4, 2, dtype=torch.float64, requires_grad=True)
    target, group = torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 1, 1])
    (gradient,) = torch.autograd.grad(fairness_regularized(logits, target, group, regularization=100.0), logits)
    (plain,) = torch.autograd.grad(cross_entropy(logits, target), logits)
    torch.testing.assert_close(gradient, plain)
