"""What is true of the Z-loss alone; the conformance suite does the rest."""

import math
import statistics

import pytest
import torch

from lossary.losses.classification import ZLoss
from lossary.losses.classification.z_loss import z_loss

LOGITS = 3 * torch.randn(20, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 1
TARGET = torch.arange(20) % 5


@pytest.mark.parametrize(("a", "b"), [(1.0, 0.0), (2.5, 1.3), (0.3, -2.0)])
def test_matches_a_loop(a: float, b: float) -> None:
    expected = []
    for z, y in zip(LOGITS.tolist(), TARGET.tolist(), strict=True):
        u = (z[y] - statistics.fmean(z)) / statistics.pstdev(z)
        expected.append(math.log(1 + math.exp(a * (b - u))) / a)
    torch.testing.assert_close(z_loss(LOGITS, TARGET, a=a, b=b, reduction="none"), LOGITS.new_tensor(expected))


def test_shift_and_scale_change_nothing_and_the_gradient_is_orthogonal_to_both() -> None:
    logits = LOGITS.clone().requires_grad_()
    value = z_loss(logits, TARGET, reduction="none")
    torch.testing.assert_close(z_loss(100 * LOGITS - 7, TARGET, reduction="none"), value.detach())
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    torch.testing.assert_close(gradient.sum(1), torch.zeros(20, dtype=torch.float64))
    torch.testing.assert_close((gradient * LOGITS).sum(1), torch.zeros(20, dtype=torch.float64))


def test_scaled_logits_scale_the_gradient_and_leave_its_direction() -> None:
    small, large = LOGITS.clone().requires_grad_(), (100 * LOGITS).requires_grad_()
    for logits in (small, large):
        z_loss(logits, TARGET).backward()
    assert small.grad is not None
    assert large.grad is not None
    torch.testing.assert_close(large.grad * 100, small.grad)


def test_no_class_can_be_more_than_so_many_deviations_up() -> None:
    lead = torch.zeros(1, 10, dtype=torch.float64)
    lead[0, 3] = 1.0
    floor = math.log1p(math.exp(-math.sqrt(9)))
    assert z_loss(lead, torch.tensor([3])).item() == pytest.approx(floor)
    assert z_loss(LOGITS, TARGET, reduction="none").min() >= math.log1p(math.exp(-math.sqrt(4)))


@pytest.mark.parametrize("size", [0.0, 1.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_a_constant_row_can_start_to_learn(size: float, dtype: torch.dtype) -> None:
    logits = torch.full((1, 3), size, dtype=dtype, requires_grad=True)
    loss = z_loss(logits, torch.tensor([0]))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2))
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.tensor([[-1 / 3, 1 / 6, 1 / 6]], dtype=dtype))


def test_nearly_equal_logits_have_no_negative_variance() -> None:
    logits = (1000 + 1e-4 * torch.arange(8.0)).unsqueeze(0).requires_grad_()  # E[z²] - E[z]² is below 0 here in float32
    loss = z_loss(logits, torch.tensor([7]))
    loss.backward()
    assert 0 < loss.item() < math.log(2)
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_link_ranks_by_the_standardised_logit() -> None:
    found = ZLoss(a=2.0).link(LOGITS)
    torch.testing.assert_close(found.sum(1), torch.ones(20, dtype=torch.float64))
    torch.testing.assert_close(found, ZLoss(a=2.0).link(5 * LOGITS + 3))
    assert (found.argmax(1) == LOGITS.argmax(1)).all()


def test_two_classes_leave_nothing_to_learn() -> None:
    logits = torch.tensor([[0.3, -1.2], [5.0, 6.0]], dtype=torch.float64, requires_grad=True)
    value = z_loss(logits, torch.tensor([0, 0]), reduction="none")
    assert value.tolist() == pytest.approx([math.log1p(math.exp(-1)), math.log1p(math.exp(1))])
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient))
