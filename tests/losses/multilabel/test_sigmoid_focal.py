"""What is true of the sigmoid focal loss alone; the conformance suite does the rest."""

import math

import pytest
import torch

from lossary.losses.multilabel.sigmoid_focal import sigmoid_focal


@pytest.mark.parametrize("alpha", [0.25, None])
@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_matches_a_loop(alpha: float | None, gamma: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(24, dtype=torch.float64, generator=generator)
    target = torch.randint(2, (24,), generator=generator).double()
    expected = []
    for z, y in zip(logits.tolist(), target.tolist(), strict=True):
        p = 1 / (1 + math.exp(-z))
        p_right = p if y else 1 - p
        share = 1.0 if alpha is None else (alpha if y else 1 - alpha)
        expected.append(share * (1 - p_right) ** gamma * -math.log(p_right))
    value = sigmoid_focal(logits, target, gamma=gamma, alpha=alpha, reduction="none")
    torch.testing.assert_close(value, logits.new_tensor(expected))


def test_a_fractional_gamma_has_a_finite_gradient_at_certainty() -> None:
    logits = torch.tensor([200.0, -200.0], requires_grad=True)
    sigmoid_focal(logits, torch.tensor([1.0, 0.0]), gamma=0.5).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
