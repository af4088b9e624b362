"""What is true of the focal loss alone; the conformance suite does the rest."""

import math

import torch

from lossary.losses.classification.cross_entropy import cross_entropy
from lossary.losses.classification.focal import focal


def test_matches_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(16, 5, dtype=torch.float64, generator=generator)
    target = torch.randint(5, (16,), generator=generator)
    expected = []
    for z, y in zip(logits.tolist(), target.tolist(), strict=True):
        p = math.exp(z[y]) / sum(map(math.exp, z))
        expected.append((1 - p) ** 1.5 * -math.log(p))
    torch.testing.assert_close(focal(logits, target, gamma=1.5, reduction="none"), logits.new_tensor(expected))


def test_never_exceeds_cross_entropy_and_falls_with_gamma() -> None:
    logits = torch.randn(64, 7, generator=torch.Generator().manual_seed(1))
    target = torch.arange(64) % 7
    previous = cross_entropy(logits, target, reduction="none")
    for gamma in (0.5, 1.0, 2.0, 5.0):
        current = focal(logits, target, gamma=gamma, reduction="none")
        assert (current <= previous + 1e-6).all()
        previous = current


def test_a_fractional_gamma_has_a_finite_gradient_at_certainty() -> None:
    logits = torch.tensor([[200.0, 0.0]], requires_grad=True)
    focal(logits, torch.tensor([0]), gamma=0.5).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
