"""What is true of the single-label asymmetric loss alone; the conformance suite does the rest."""

import math

import torch

from lossary.losses.classification.asymmetric_single_label import asymmetric_single_label
from lossary.losses.classification.cross_entropy import cross_entropy


def test_matches_a_loop_over_classes() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(16, 5, dtype=torch.float64, generator=generator)
    target = torch.randint(5, (16,), generator=generator)
    expected = []
    for z, y in zip(logits.tolist(), target.tolist(), strict=True):
        total = 0.0
        for c in range(5):
            p = math.exp(z[c]) / sum(map(math.exp, z))
            q = 0.8 * (c == y) + 0.2 / 5
            focus = (1 - p) ** 1.5 if c == y else p**3
            total -= q * focus * math.log(p)
        expected.append(total)
    value = asymmetric_single_label(logits, target, gamma_pos=1.5, gamma_neg=3.0, label_smoothing=0.2, reduction="none")
    torch.testing.assert_close(value, logits.new_tensor(expected))


def test_without_focusing_it_is_smoothed_cross_entropy() -> None:
    logits = torch.randn(12, 4, generator=torch.Generator().manual_seed(1))
    target = torch.arange(12) % 4
    torch.testing.assert_close(
        asymmetric_single_label(logits, target, gamma_pos=0.0, gamma_neg=0.0, label_smoothing=0.1),
        cross_entropy(logits, target, label_smoothing=0.1),
    )
