"""What is true of binary cross-entropy alone; the conformance suite does the rest."""

import math

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from lossary.losses.multilabel.binary_cross_entropy import binary_cross_entropy


def test_matches_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 4, dtype=torch.float64, generator=generator)
    target = torch.rand(6, 4, dtype=torch.float64, generator=generator)
    expected = []
    for z, y in zip(logits.flatten().tolist(), target.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-z))
        expected.append(-y * math.log(p) - (1 - y) * math.log(1 - p))
    torch.testing.assert_close(binary_cross_entropy(logits, target, reduction="none").flatten(), logits.new_tensor(expected))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_has_the_values_of_torch(reduction: str) -> None:
    generator = torch.Generator().manual_seed(1)
    logits, target = torch.randn(6, 4, generator=generator), torch.rand(6, 4, generator=generator)
    weight, pos_weight = torch.rand(6, 1, generator=generator), 3 * torch.rand(4, generator=generator)
    ours = binary_cross_entropy(logits, target, weight=weight, pos_weight=pos_weight, reduction=reduction)  # type: ignore[arg-type]
    theirs = binary_cross_entropy_with_logits(logits, target, weight=weight, pos_weight=pos_weight, reduction=reduction)
    torch.testing.assert_close(ours, theirs)


def test_whole_numbers_and_truth_values_are_targets_too() -> None:
    logits = torch.tensor([0.5, -1.0, 2.0])
    expected = binary_cross_entropy(logits, torch.tensor([1.0, 0.0, 1.0]))
    assert binary_cross_entropy(logits, torch.tensor([1, 0, 1])) == expected
    assert binary_cross_entropy(logits, torch.tensor([True, False, True])) == expected
