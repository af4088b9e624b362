"""What is true of Poly-1 focal alone; the conformance suite does the rest."""

import math

import pytest
import torch

from lossary.losses.multilabel.poly_focal import poly_focal


@pytest.mark.parametrize("alpha", [0.25, None])
@pytest.mark.parametrize("epsilon", [-1.0, 2.0])
def test_matches_a_loop(alpha: float | None, epsilon: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(24, dtype=torch.float64, generator=generator)
    target = torch.randint(2, (24,), generator=generator).double()
    expected = []
    for z, y in zip(logits.tolist(), target.tolist(), strict=True):
        p = 1 / (1 + math.exp(-z))
        p_right = p if y else 1 - p
        share = 1.0 if alpha is None else (alpha if y else 1 - alpha)
        expected.append(share * ((1 - p_right) ** 2 * -math.log(p_right) + epsilon * (1 - p_right) ** 3))
    value = poly_focal(logits, target, epsilon=epsilon, alpha=alpha, reduction="none")
    torch.testing.assert_close(value, logits.new_tensor(expected))


def test_the_default_never_falls_below_zero() -> None:
    logits = torch.linspace(-40, 40, 401, dtype=torch.float64)
    rounding = 1e-16
    assert (poly_focal(logits, torch.ones(401), reduction="none") >= -rounding).all()
