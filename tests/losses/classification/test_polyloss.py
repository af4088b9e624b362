"""What is true of PolyLoss alone; the conformance suite does the rest."""

import math

import pytest
import torch

from lossary.losses.classification.cross_entropy import cross_entropy
from lossary.losses.classification.polyloss import polyloss


@pytest.mark.parametrize("epsilon", [1.0, -1.0, (2.0, -0.5, 0.25)])
def test_matches_a_loop(epsilon: float | tuple[float, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(16, 5, dtype=torch.float64, generator=generator)
    target = torch.randint(5, (16,), generator=generator)
    coefficients = epsilon if isinstance(epsilon, tuple) else (epsilon,)
    expected = []
    for z, y in zip(logits.tolist(), target.tolist(), strict=True):
        p = math.exp(z[y]) / sum(map(math.exp, z))
        expected.append(-math.log(p) + sum(e * (1 - p) ** (j + 1) for j, e in enumerate(coefficients)))
    torch.testing.assert_close(polyloss(logits, target, epsilon=epsilon, reduction="none"), logits.new_tensor(expected))


def test_cancelling_coefficients_leaves_the_tail_of_the_expansion() -> None:
    logits = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    p = math.e / (math.e + 1)
    tail = sum((1 - p) ** j / j for j in range(4, 400))
    value = polyloss(logits, torch.tensor([0]), epsilon=(-1.0, -1 / 2, -1 / 3))
    assert value.item() == pytest.approx(tail, rel=1e-9)


@pytest.mark.parametrize("epsilon", [-2.0, 1.0])
def test_its_slope_is_that_of_the_logarithm_and_epsilon(epsilon: float) -> None:
    p = torch.tensor([0.01, 0.3, 0.49, 0.51, 0.8, 0.99], dtype=torch.float64)
    logits = torch.stack([p.logit(), torch.zeros_like(p)], 1).requires_grad_()
    value = polyloss(logits, torch.zeros(6, dtype=torch.int64), epsilon=epsilon, reduction="sum")
    slope = torch.autograd.grad(value, logits)[0][:, 0] / (p * (1 - p))
    torch.testing.assert_close(slope, -1 / p - epsilon)
    assert (slope > 0).tolist() == [epsilon < -1 and q > 0.5 for q in p.tolist()]  # below -1 it rises again near p = 1


@pytest.mark.parametrize("epsilon", [-1.0, 2.0])
def test_differs_from_cross_entropy_by_at_most_epsilon(epsilon: float) -> None:
    logits = 5 * torch.randn(100, 4, generator=torch.Generator().manual_seed(2))
    target = torch.arange(100) % 4
    difference = polyloss(logits, target, epsilon=epsilon, reduction="none") - cross_entropy(logits, target, reduction="none")
    assert difference.abs().max() <= abs(epsilon) + 1e-6


def test_smoothed_poly_1_is_the_one_of_the_appendix() -> None:
    logits = torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    target = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    q = torch.full((8, 3), 0.1 / 3, dtype=torch.float64)
    q[torch.arange(8), target] += 0.9
    p = torch.tensor([[math.exp(v) / sum(map(math.exp, z)) for v in z] for z in logits.tolist()], dtype=torch.float64)
    expected = cross_entropy(logits, target, label_smoothing=0.1, reduction="none") + 1.5 * (1 - (q * p).sum(1))
    torch.testing.assert_close(polyloss(logits, target, epsilon=1.5, label_smoothing=0.1, reduction="none"), expected)
