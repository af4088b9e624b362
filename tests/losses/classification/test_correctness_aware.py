"""What is true of the correctness-aware objective alone; the conformance suite does the rest."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from lossary.errors import InvalidValueError
from lossary.losses.classification.correctness_aware import correctness_aware


def terms(logits: torch.Tensor, target: torch.Tensor) -> tuple[list[float], list[float]]:
    """The losses of the predictions that are right, and of those that are wrong."""
    right, wrong = [], []
    for row, label in zip(logits.tolist(), target.tolist(), strict=True):
        confidence = math.exp(max(row)) / sum(map(math.exp, row))
        if row.index(max(row)) == label:
            right.append((1 - confidence) ** 2)
        else:
            wrong.append(confidence**2)
    return right, wrong


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return 2 * torch.randn(30, 4, dtype=torch.float64, generator=generator), torch.randint(4, (30,), generator=generator)


def test_matches_a_loop() -> None:
    right, wrong = terms(*batch())
    assert correctness_aware(*batch()).item() == pytest.approx((sum(right) + sum(wrong)) / 30)


def test_balanced_gives_right_and_wrong_the_same_weight() -> None:
    right, wrong = terms(*batch())
    accuracy = len(right) / 30
    weighted = (1 - accuracy) * sum(right) + accuracy * sum(wrong)  # the weights of the authors' program
    total = (1 - accuracy) * len(right) + accuracy * len(wrong)
    assert correctness_aware(*batch(), balanced=True).item() == pytest.approx(weighted / total)
    assert correctness_aware(*batch(), balanced=True, reduction="sum").item() == pytest.approx(30 * weighted / total)


@pytest.mark.parametrize("all_right", [True, False])
def test_balanced_works_where_all_are_right_or_all_are_wrong(all_right: bool) -> None:
    logits, _ = batch()
    target = logits.argmax(1) if all_right else logits.argmin(1)
    balanced = correctness_aware(logits, target, balanced=True)
    torch.testing.assert_close(balanced, correctness_aware(logits, target))
    assert correctness_aware(logits[:0], target[:0], balanced=True).item() == 0


def test_balanced_has_no_values_for_each_sample() -> None:
    with pytest.raises(InvalidValueError, match="reduction must be 'mean' or 'sum' for balanced=True, got 'none'"):
        correctness_aware(*batch(), balanced=True, reduction="none")


def test_balanced_leaves_out_ignored_samples_and_weighs_classes() -> None:
    logits, target = batch()
    masked = target.clone()
    masked[::4] = -100
    kept = masked != -100
    weight = torch.tensor([1.0, 2.0, 1.0, 3.0], dtype=torch.float64)
    listed = torch.repeat_interleave(torch.arange(30)[kept], weight.long()[target[kept]])
    torch.testing.assert_close(
        correctness_aware(logits, masked, balanced=True, weight=weight),
        correctness_aware(logits[listed], target[listed], balanced=True),
    )


def test_a_narrow_miss_loses_confidence_where_cross_entropy_gives_it_more() -> None:
    logits, target = torch.tensor([[0.45, 0.40, 0.05, 0.05, 0.05]], dtype=torch.float64).log(), torch.tensor([1])
    temperature = torch.ones((), dtype=torch.float64, requires_grad=True)
    (by_this,) = torch.autograd.grad(correctness_aware(logits / temperature, target), temperature)
    (by_cross_entropy,) = torch.autograd.grad(cross_entropy(logits / temperature, target), temperature)
    assert by_this < 0  # descent raises the temperature
    assert by_cross_entropy > 0


def test_is_zero_for_certain_right_predictions_and_one_for_certain_wrong_ones() -> None:
    logits = torch.tensor([[1e4, 0.0, 0.0]])
    assert correctness_aware(logits, torch.tensor([0])).item() == 0
    assert correctness_aware(logits, torch.tensor([1])).item() == 1


def test_is_not_proper_as_it_rewards_being_unsure_of_a_wrong_class() -> None:
    """Why it calibrates frozen classifiers only: the true distribution costs more than hardly predicting an unlikely class."""
    q = torch.tensor([[0.5, 0.125, 0.125, 0.125, 0.125]])
    unsure = torch.tensor([[0.199, 0.201, 0.2, 0.2, 0.2]])
    assert correctness_aware(q.log(), q).item() == pytest.approx(0.25)
    assert correctness_aware(unsure.log(), q).item() == pytest.approx(0.125 * 0.799**2 + 0.875 * 0.201**2)
