"""What is true of the smooth adversarial comp-sum loss alone; the conformance suite does the rest."""

import math

import pytest
import torch
from torch import Tensor

from lossary.losses.classification.cross_entropy import cross_entropy
from lossary.losses.classification.smooth_adversarial_comp_sum import (
    SmoothAdversarialCompSumLoss,
    smooth_adversarial_comp_sum,
)

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(8, 4, generator=GENERATOR, dtype=torch.float64)
ATTACKED = torch.randn(8, 4, generator=GENERATOR, dtype=torch.float64)
TARGET = torch.randint(4, (8,), generator=GENERATOR)


def clean(tau: float, rho: float = 1.0) -> Tensor:
    return smooth_adversarial_comp_sum(LOGITS, TARGET, LOGITS, tau=tau, rho=rho, reduction="none")


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0, 1.7, 2.0])
def test_matches_a_loop_over_margins(tau: float) -> None:
    value = smooth_adversarial_comp_sum(LOGITS, TARGET, ATTACKED, tau=tau, rho=0.7, nu=1.3, reduction="none")
    rows = zip(LOGITS.tolist(), ATTACKED.tolist(), TARGET.tolist(), value.tolist(), strict=True)
    for z, attacked, y, found in rows:
        margins = [z[y] - z[j] for j in range(4) if j != y]
        moved = [attacked[y] - attacked[j] - (z[y] - z[j]) for j in range(4) if j != y]
        u = sum(math.exp(-d / 0.7) for d in margins)
        phi = math.log1p(u) if tau == 1 else ((1 + u) ** (1 - tau) - 1) / (1 - tau)
        assert found == pytest.approx(phi + 1.3 * math.sqrt(sum(d * d for d in moved)))


def test_special_values_of_tau() -> None:
    p = LOGITS.softmax(1)[torch.arange(8), TARGET]
    torch.testing.assert_close(clean(0.0), 1 / p - 1)
    torch.testing.assert_close(clean(1.0), cross_entropy(LOGITS, TARGET, reduction="none"))
    torch.testing.assert_close(clean(1.3), (1 - p**0.3) / 0.3)
    torch.testing.assert_close(clean(2.0), 1 - p)
    torch.testing.assert_close(clean(1.0, rho=2.0), cross_entropy(LOGITS / 2, TARGET, reduction="none"))


def test_falls_with_tau_and_is_continuous_at_one() -> None:
    values = torch.stack([clean(tau) for tau in (0.0, 0.5, 0.999, 1.0, 1.001, 1.5, 2.0)])
    assert (values.diff(dim=0) < 0).all()
    for off in (1e-3, 1e-9, 1e-11, 1e-13, 1e-17):
        for tau in (1 - off, 1 + off):
            torch.testing.assert_close(clean(tau), clean(1.0), rtol=5 * off + 1e-12, atol=0)


def test_a_shift_of_all_attacked_logits_costs_nothing_and_has_no_gradient() -> None:
    attacked = (LOGITS + 3.0).requires_grad_()
    logits = LOGITS.clone().requires_grad_()
    value = smooth_adversarial_comp_sum(logits, TARGET, attacked)
    assert value.item() == pytest.approx(cross_entropy(LOGITS, TARGET).item(), abs=1e-12)
    exact = smooth_adversarial_comp_sum(logits, TARGET, logits)
    gradients = torch.autograd.grad(exact, logits)
    (plain,) = torch.autograd.grad(cross_entropy(logits, TARGET), logits)
    torch.testing.assert_close(gradients[0], plain)


def test_gradients_flow_through_both_outputs() -> None:
    attacked = ATTACKED.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: smooth_adversarial_comp_sum(LOGITS, TARGET, z, reduction="none"), attacked)
    (gradient,) = torch.autograd.grad(smooth_adversarial_comp_sum(LOGITS, TARGET, attacked), attacked)
    assert (gradient.abs().sum(1) > 0).all()


@pytest.mark.parametrize("tau", [0.0, 0.5])
def test_a_power_of_one_over_p_goes_on_as_a_line(tau: float) -> None:
    size = torch.tensor([5.0, 9.0, 100.0, 1000.0, 1e4], dtype=torch.float64) / (1 - tau)
    logits = torch.stack([torch.zeros_like(size), size], 1).requires_grad_()
    value = smooth_adversarial_comp_sum(logits, torch.zeros(5).long(), logits.detach(), tau=tau, nu=0.0, reduction="none")
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    p = logits.detach().softmax(1)[:, 0]
    torch.testing.assert_close(value[:2].detach(), (p[:2] ** (tau - 1) - 1) / (1 - tau))
    torch.testing.assert_close(-gradient[2:, 0], torch.full_like(gradient[2:, 0], math.exp(10)))
    assert (value.diff() > 0).all()


def test_the_link_divides_by_the_scale() -> None:
    torch.testing.assert_close(SmoothAdversarialCompSumLoss(rho=2.0).link(LOGITS), (LOGITS / 2).softmax(1))
