"""Large steps of logistic regression: printed counts of steps, a loop, and the perceptron as the limit."""

import math

import pytest
import torch
from sklearn.datasets import load_digits

from lossary.errors import InvalidTypeError, InvalidValueError
from lossary.experiments import crowded_data, large_step_logistic


@pytest.mark.parametrize(
    ("method", "step_size", "steps"),
    [
        ("logistic", 1.0, 15_887),
        ("logistic", 100.0, 470),
        ("logistic", 1e6, 451),
        ("perceptron", 1.0, 451),
        ("perceptron", 37.0, 451),
        ("normalized", 10.0, 2),
        ("normalized", 1e4, 2),
    ],
)
def test_printed_counts_for_a_thousand_samples(method: str, step_size: float, steps: int) -> None:
    course = large_step_logistic(*crowded_data(1000), method, step_size)
    assert course.steps == steps
    assert course.losses.shape == course.mistakes.shape == (steps + 1,)
    assert course.mistakes[-1] == 0
    assert (course.mistakes[:-1] > 0).all()


def test_with_ten_times_the_samples_only_the_normalized_form_is_not_ten_times_slower() -> None:
    assert large_step_logistic(*crowded_data(10_000), "logistic", 1e6).steps == 4501
    assert large_step_logistic(*crowded_data(10_000), "normalized", 1000.0).steps == 2


@pytest.mark.parametrize("method", ["logistic", "normalized", "perceptron"])
def test_matches_a_loop(method: str) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(12, 3, generator=generator, dtype=torch.float64)
    target = (features @ torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64) > 0).long()
    course = large_step_logistic(features, target, method, 2.0)
    rows = [[(1 if t else -1) * v for v in row] for row, t in zip(features.tolist(), target.tolist(), strict=True)]
    theta, taken, losses = [0.0] * 3, 0, []
    while True:
        margins = [sum(a * b for a, b in zip(row, theta, strict=True)) for row in rows]
        losses.append(sum(math.log1p(math.exp(-margin)) for margin in margins) / 12)
        if all(margin > 0 for margin in margins):
            break
        if method == "perceptron":
            voices = [(1.0 if margin < 0 else 0.5 if margin == 0 else 0.0) / 12 for margin in margins]
        else:
            voices = [1 / (1 + math.exp(margin)) for margin in margins]
            divisor = sum(voices) if method == "normalized" else 12
            voices = [voice / divisor for voice in voices]
        theta = [t + 2.0 * sum(v * row[j] for v, row in zip(voices, rows, strict=True)) for j, t in enumerate(theta)]
        taken += 1
    assert course.steps == taken > 1
    assert course.losses.tolist() == pytest.approx(losses)
    assert course.weight.tolist() == pytest.approx(theta)


def test_on_digits_large_steps_are_sooner_although_the_loss_peaks() -> None:
    data = load_digits()
    chosen = (data.target == 3) | (data.target == 8)
    features = torch.as_tensor(data.data[chosen] / 16)
    target = torch.as_tensor(data.target[chosen] == 8)
    small, large = (large_step_logistic(features, target, "logistic", size) for size in (1.0, 100.0))
    assert small.steps is not None
    assert large.steps is not None
    assert large.steps < small.steps / 2
    assert float(small.losses.max()) < math.log(2) + 1e-3
    assert float(large.losses.max()) > 50


def test_giving_up_says_so() -> None:
    features = torch.tensor([[1.0], [1.0]])
    course = large_step_logistic(features, torch.tensor([0, 1]), max_steps=7)  # the same input in both classes
    assert course.steps is None
    assert len(course.losses) == 8
    assert large_step_logistic(features[:0], torch.tensor([], dtype=torch.int64)).steps == 0


def test_huge_steps_stay_finite() -> None:
    course = large_step_logistic(*crowded_data(50), "normalized", 1e30)
    assert course.steps == 2
    assert course.weight.isfinite().all()


def test_what_is_not_a_number_is_not_right() -> None:
    features, target = crowded_data(10)
    overflowing = large_step_logistic(100 * features, target, "logistic", 1e308, max_steps=3)
    features[3, 0] = math.nan
    broken = large_step_logistic(features, target, max_steps=3)
    assert overflowing.steps is broken.steps is None
    assert broken.mistakes.tolist() == [10, 10, 10, 10]


def test_mistakes_are_named() -> None:
    features, target = crowded_data(4)
    with pytest.raises(InvalidValueError, match="method must be 'logistic' or 'normalized' or 'perceptron', got 'p'"):
        large_step_logistic(features, target, "p")
    with pytest.raises(InvalidValueError, match="large_step_logistic: target must be 0 or 1, got others"):
        large_step_logistic(features, 2 * target)
    with pytest.raises(InvalidValueError, match=r"large_step_logistic: target must have shape \(4,\), got \(3,\)"):
        large_step_logistic(features, target[:3])
    with pytest.raises(InvalidValueError, match="crowded_data: samples must be an integer >= 2, got 1"):
        crowded_data(1)
    with pytest.raises(InvalidTypeError, match="large_step_logistic: target must be a tensor, got list"):
        large_step_logistic(features, target.tolist())  # type: ignore[arg-type]
