"""What is true of BYOL's loss alone; the conformance suite does the rest."""

import math

import pytest
import torch

from lossary import LossaryError
from lossary.losses import ByolLoss
from lossary.losses.contrastive.byol import byol

GENERATOR = torch.Generator().manual_seed(0)
P = torch.randn(7, 5, generator=GENERATOR, dtype=torch.float64)
Z = torch.randn(7, 5, generator=GENERATOR, dtype=torch.float64)


def test_matches_the_squared_distance_of_unit_vectors() -> None:
    values = byol(P, Z, reduction="none")
    for i, (p, z) in enumerate(zip(P.tolist(), Z.tolist(), strict=True)):
        lengths = math.hypot(*p), math.hypot(*z)
        distance = sum((a / lengths[0] - b / lengths[1]) ** 2 for a, b in zip(p, z, strict=True))
        assert values[i].item() == pytest.approx(distance)
    assert byol(P, Z).item() == pytest.approx(values.mean().item())


def test_ranges_from_0_to_4_whatever_the_lengths() -> None:
    values = byol(torch.stack([P[0], P[0], P[0]]), torch.stack([3 * P[0], -2 * P[0], P[0].roll(1) * 0]), reduction="none")
    torch.testing.assert_close(values, P.new_tensor([0.0, 4.0, 2.0]))
    torch.testing.assert_close(byol(100 * P, 0.01 * Z), byol(P, Z))


def test_the_order_of_the_batch_does_not_matter() -> None:
    order = torch.tensor([3, 1, 6, 0, 2, 5, 4])
    torch.testing.assert_close(byol(P[order], Z[order]), byol(P, Z))


def test_no_gradient_reaches_the_target_and_the_predictions_is_tangential() -> None:
    p, z = P.clone().requires_grad_(), Z.clone().requires_grad_()
    byol(p, z).backward()
    assert z.grad is None
    assert p.grad is not None
    torch.testing.assert_close((p.grad * P).sum(1), torch.zeros(7, dtype=torch.float64))


def test_zeros_have_a_finite_gradient_that_leads_to_the_target() -> None:
    for dtype in (torch.float32, torch.float16):
        p = torch.zeros(1, 3, dtype=dtype, requires_grad=True)
        byol(p, torch.tensor([[0.0, 2.0, 0.0]], dtype=dtype)).backward()
        torch.testing.assert_close(p.grad, torch.tensor([[0.0, -2.0, 0.0]], dtype=dtype))


def test_names_its_arguments() -> None:
    with pytest.raises(LossaryError, match=r"^byol: target must have shape \(7, 5\), got \(6, 5\)"):
        ByolLoss()(P, Z[:6])
    with pytest.raises(LossaryError, match=r"^byol: prediction must have shape \(N, D\), got \(7, 5, 1\)"):
        ByolLoss()(P.unsqueeze(2), Z)
