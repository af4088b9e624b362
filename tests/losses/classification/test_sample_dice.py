"""What is true of sample-level Dice alone; the conformance suite does the rest."""

import math

import pytest
import torch

from lossary.losses.classification.sample_dice import sample_dice
from lossary.losses.classification.set_dice import set_dice


def softmax(row: list[float]) -> list[float]:
    exponentials = [math.exp(v) for v in row]
    return [e / sum(exponentials) for e in exponentials]


@pytest.mark.parametrize(("smooth", "power"), [(1.0, 2.0), (0.0, 1.0), (0.3, 1.5)])
def test_matches_a_loop_over_samples_and_classes(smooth: float, power: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(12, 4, dtype=torch.float64, generator=generator)
    target = torch.randint(4, (12,), generator=generator)
    expected = []
    for row, label in zip(logits.tolist(), target.tolist(), strict=True):
        scores = [
            (2 * p * (c == label) + smooth) / (p**power + float(c == label) ** power + smooth) for c, p in enumerate(softmax(row))
        ]
        expected.append(1 - sum(scores) / 4)
    value = sample_dice(logits, target, smooth=smooth, power=power, reduction="none")
    torch.testing.assert_close(value, logits.new_tensor(expected))


@pytest.mark.parametrize("label", range(4))
def test_one_sample_is_a_set(label: int) -> None:
    logits, target = torch.tensor([[0.4, -1.0, 2.0, 0.1]], dtype=torch.float64), torch.tensor([label])
    for smooth, power in ((1.0, 2.0), (0.2, 1.0)):
        one, whole = (loss(logits, target, smooth=smooth, power=power) for loss in (sample_dice, set_dice))
        torch.testing.assert_close(one, whole)


def test_without_smoothing_only_the_true_class_counts() -> None:
    logits = torch.tensor([[1.0, 0.2, -0.7], [0.0, 2.0, 1.0]], dtype=torch.float64)
    target = torch.tensor([2, 0])
    p = [softmax(row)[label] for row, label in zip(logits.tolist(), target.tolist(), strict=True)]
    value = sample_dice(logits, target, smooth=0.0, power=1.0)
    assert value.item() == pytest.approx(1 - sum(2 * v / (1 + v) for v in p) / 2 / 3)


def test_lies_between_0_and_1() -> None:
    for logits in (torch.tensor([[50.0, 0.0]]), torch.tensor([[-50.0, 0.0]])):
        for smooth in (0.0, 1e-3, 1.0):
            assert 0 <= sample_dice(logits, torch.tensor([0]), smooth=smooth).item() <= 1
    assert sample_dice(torch.tensor([[50.0, 0.0]]), torch.tensor([0])).item() == pytest.approx(0, abs=1e-6)
    assert sample_dice(torch.tensor([[-50.0, 0.0]]), torch.tensor([0]), smooth=0.0).item() == pytest.approx(1)


@pytest.mark.parametrize(("smooth", "power"), [(1.0, 2.0), (0.0, 2.0), (0.3, 1.0)])
def test_a_large_batch_has_the_gradient_of_its_samples(smooth: float, power: float) -> None:
    logits = torch.randn(20_000, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    target = torch.arange(20_000) % 4
    (gradient,) = torch.autograd.grad(sample_dice(logits, target, smooth=smooth, power=power, reduction="sum"), logits)
    few = logits.detach()[:8].clone().requires_grad_()
    (expected,) = torch.autograd.grad(sample_dice(few, target[:8], smooth=smooth, power=power, reduction="sum"), few)
    torch.testing.assert_close(gradient[:8], expected)
