"""What is true of the dual focal loss alone; the conformance suite does the rest."""

import math

import pytest
import torch

from lossary.losses.classification.cross_entropy import cross_entropy
from lossary.losses.classification.dual_focal import dual_focal
from lossary.losses.classification.focal import focal


def by_loop(z: list[float], y: int, gamma: float) -> float:
    total = sum(map(math.exp, z))
    p = [math.exp(v) / total for v in z]
    lower = [p[j] for j in range(len(z)) if z[j] < z[y]]
    factor: float = (1 - p[y] + max(lower, default=0.0)) ** gamma
    return factor * -math.log(p[y])


@pytest.mark.parametrize("gamma", [0.5, 1.0, 5.0])
def test_matches_a_loop(gamma: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(32, 6, dtype=torch.float64, generator=generator)
    target = torch.randint(6, (32,), generator=generator)
    expected = [by_loop(z, y, gamma) for z, y in zip(logits.tolist(), target.tolist(), strict=True)]
    torch.testing.assert_close(dual_focal(logits, target, gamma=gamma, reduction="none"), logits.new_tensor(expected))


@pytest.mark.parametrize("row", [[1.0, 1.0, 1.0, 1.0], [2.0, 1.0, 1.0, 2.0], [0.0, 0.0, -1.0, -1.0], [3.0, 3.0, 3.0, -2.0]])
def test_classes_that_tie_are_not_below_each_other(row: list[float]) -> None:
    for y in range(4):
        value = dual_focal(torch.tensor([row], dtype=torch.float64), torch.tensor([y]), gamma=2.0)
        assert value.item() == pytest.approx(by_loop(row, y, 2.0))


def test_lies_between_focal_and_cross_entropy() -> None:
    logits = 3 * torch.randn(200, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    target = torch.arange(200) % 5
    value = dual_focal(logits, target, gamma=3.0, reduction="none")
    assert (value >= focal(logits, target, gamma=3.0, reduction="none") - 1e-6).all()
    assert (value <= cross_entropy(logits, target, reduction="none") + 1e-6).all()


def test_the_smallest_class_is_treated_as_by_focal() -> None:
    logits, target = torch.tensor([[2.0, -1.0, 0.5]]), torch.tensor([1])
    torch.testing.assert_close(dual_focal(logits, target, gamma=4.0), focal(logits, target, gamma=4.0))


def test_the_runner_up_has_a_gradient_through_the_factor() -> None:
    logits = torch.tensor([[2.0, 1.9, -3.0]], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(dual_focal(logits, torch.tensor([0]), gamma=2.0), logits)
    step = 1e-6
    for j in range(3):
        moved = logits.detach().clone()
        moved[0, j] += step
        slope = (by_loop(moved[0].tolist(), 0, 2.0) - by_loop(logits[0].tolist(), 0, 2.0)) / step
        assert gradient[0, j].item() == pytest.approx(slope, abs=1e-5)


@pytest.mark.parametrize("size", [1, 3000])  # plain operations, and one pass
def test_logits_that_differ_are_no_tie_where_their_probabilities_round_to_one_number(size: int) -> None:
    logits = torch.tensor([[0.0, 1e-8]]).repeat(size, 1)
    assert dual_focal(logits, torch.ones(size, dtype=torch.long), gamma=2.0).item() == pytest.approx(math.log(2))
    assert dual_focal(logits, torch.zeros(size, dtype=torch.long), gamma=2.0).item() == pytest.approx(math.log(2) / 4)


@pytest.mark.parametrize("gamma", [0.1, 0.5])
@pytest.mark.parametrize("size", [20.0, 1e4])
def test_a_fractional_exponent_has_a_finite_slope_where_the_class_is_certain(gamma: float, size: float) -> None:
    logits = torch.tensor([[size, 0.0, 0.0]], requires_grad=True)
    loss = dual_focal(logits, torch.tensor([0]), gamma=gamma)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == pytest.approx(0.0, abs=1e-8)
    assert gradient.isfinite().all()
