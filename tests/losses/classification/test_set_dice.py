"""What is true of set-level Dice alone; the conformance suite does the rest."""

import math

import pytest
import torch

from lossary.errors import InvalidIndexError, InvalidValueError
from lossary.losses.classification.sample_dice import sample_dice
from lossary.losses.classification.set_dice import set_dice


@pytest.mark.parametrize(("smooth", "power"), [(1.0, 2.0), (0.0, 1.0), (0.3, 1.5)])
def test_matches_a_loop_over_classes(smooth: float, power: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(12, 4, dtype=torch.float64, generator=generator)
    target = torch.randint(3, (12,), generator=generator)  # the last class is absent
    p = [[math.exp(v) / sum(map(math.exp, row)) for v in row] for row in logits.tolist()]
    scores = []
    for c in range(4):
        overlap = sum(row[c] for row, label in zip(p, target.tolist(), strict=True) if label == c)
        size = sum(row[c] ** power for row in p) + target.tolist().count(c)
        scores.append((2 * overlap + smooth) / (size + smooth))
    assert set_dice(logits, target, smooth=smooth, power=power).item() == pytest.approx(1 - sum(scores) / 4)


def test_is_one_minus_the_macro_f1_of_confident_predictions() -> None:
    predicted, target = [0, 0, 1, 1, 1, 2, 0, 2], [0, 1, 1, 1, 0, 2, 0, 0]
    scores = []
    for c in range(3):
        right = sum(a == b == c for a, b in zip(predicted, target, strict=True))
        scores.append(2 * right / (predicted.count(c) + target.count(c)))
    logits = 100 * torch.nn.functional.one_hot(torch.tensor(predicted), 3).double()
    assert set_dice(logits, torch.tensor(target), smooth=0.0).item() == pytest.approx(1 - sum(scores) / 3)


def test_the_sum_is_the_mean_times_the_number_of_samples_that_count() -> None:
    logits, target = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, -100, 2, 1])
    assert set_dice(logits, target, reduction="sum").item() == pytest.approx(4 * set_dice(logits, target).item())


def test_an_absent_class_is_pulled_down_where_there_is_smoothing() -> None:
    target = torch.tensor([0, 0])
    for smooth, pulled in ((1.0, True), (0.0, False)):
        logits = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
        probability = logits.softmax(1)
        log_p = probability.log()  # the softmax of log p is p, and gives p a gradient of its own
        (gradient,) = torch.autograd.grad(set_dice(log_p, target, smooth=smooth), logits)
        assert (gradient[:, 0] < 0).all()
        expected = 0.0
        if pulled:  # by the quotient rule, for sums of 2/9 and scores 1 / (2/9 + 1)
            slope = [-(2 * (2 / 9 + 3) - (4 / 3 + 1) * 2 / 3) / (2 / 9 + 3) ** 2, (2 / 3) / (2 / 9 + 1) ** 2]
            mean = (slope[0] + 2 * slope[1]) / 3
            expected = (slope[1] - mean) / 3 / 3
        else:
            slope = [-(2 * (2 / 9 + 2) - (4 / 3) * 2 / 3) / (2 / 9 + 2) ** 2, 0.0]
            mean = slope[0] / 3
            expected = (slope[1] - mean) / 3 / 3
        torch.testing.assert_close(gradient[:, 1], torch.full((2,), expected, dtype=torch.float64))


def test_a_soft_target_is_met_where_the_prediction_equals_it() -> None:
    target = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.2, 0.6]], dtype=torch.float64)
    logits = target.log().requires_grad_()
    loss = set_dice(logits, target)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == pytest.approx(0, abs=1e-15)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient))


def test_prefers_another_prediction_than_the_average_over_samples() -> None:
    """Simpson's bias: the sample level would rather never find the one rare sample."""
    target = torch.tensor([0] * 39 + [1])
    always_first = torch.tensor([[0.95, 0.05]] * 40, dtype=torch.float64).log()
    cautious = torch.tensor([[0.7, 0.3]] * 39 + [[0.05, 0.95]], dtype=torch.float64).log()
    assert sample_dice(always_first, target, smooth=0.01) < sample_dice(cautious, target, smooth=0.01)
    assert set_dice(always_first, target, smooth=0.01) > set_dice(cautious, target, smooth=0.01)


def test_has_no_value_for_each_sample() -> None:
    with pytest.raises(InvalidValueError, match="set_dice: reduction must be 'mean' or 'sum', got 'none'"):
        set_dice(torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64), reduction="none")  # type: ignore[arg-type]


@pytest.mark.parametrize("gap", [10.0, 45.0, 60.0, 1e4])
def test_without_smoothing_an_absent_class_scores_0_however_small_its_probability_is(gap: float) -> None:
    logits = torch.tensor([[gap, 0.0]], requires_grad=True)
    loss = set_dice(logits, torch.tensor([0]), smooth=0.0)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == pytest.approx(0.5)
    assert sample_dice(logits, torch.tensor([0]), smooth=0.0).item() == pytest.approx(0.5)
    assert gradient.abs().max() < 1e-8
    assert set_dice(logits[:0], torch.tensor([], dtype=torch.int64), smooth=0.0) == 0


def test_lies_between_0_and_1() -> None:
    target = torch.tensor([0, 1, 1])
    for confidence in (-60.0, -1.0, 0.0, 60.0):
        logits = confidence * torch.nn.functional.one_hot(target, 3).double()
        for smooth in (0.0, 1e-3, 1.0):
            assert 0 <= set_dice(logits, target, smooth=smooth).item() <= 1


def test_a_class_that_does_not_exist_is_refused() -> None:
    for wrong in (3, -1):
        with pytest.raises(InvalidIndexError, match=rf"target must be class indices from 0 to 2 .*, got {wrong} at"):
            set_dice(torch.zeros(2, 3), torch.tensor([0, wrong]))
