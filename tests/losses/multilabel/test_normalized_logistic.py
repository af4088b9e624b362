"""What is true of normalised logistic regression alone; the conformance suite does the rest."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lossary.losses.multilabel.batch_perceptron import batch_perceptron
from lossary.losses.multilabel.binary_cross_entropy import binary_cross_entropy
from lossary.losses.multilabel.normalized_logistic import log_softplus, normalized_logistic


def gradient_of(logits: Tensor, target: Tensor) -> Tensor:
    leaf = logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(normalized_logistic(leaf, target), leaf)
    return gradient


def test_matches_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, target = torch.randn(20, dtype=torch.float64, generator=generator), torch.randint(2, (20,), generator=generator)
    margins = [z if y else -z for z, y in zip(logits.tolist(), target.tolist(), strict=True)]
    weights = [1 / (1 + math.exp(m)) for m in margins]
    value = normalized_logistic(logits, target)
    assert value.item() == pytest.approx(sum(math.log(1 + math.exp(-m)) for m in margins) / sum(weights))
    expected = [-w / sum(weights) if y else w / sum(weights) for w, y in zip(weights, target.tolist(), strict=True)]
    torch.testing.assert_close(gradient_of(logits, target), logits.new_tensor(expected))


@pytest.mark.parametrize("scale", [1.0, 100.0, 1e4])
def test_absolute_gradients_sum_to_one(scale: float) -> None:
    generator = torch.Generator().manual_seed(1)
    logits, target = scale * torch.randn(50, generator=generator), torch.randint(2, (50,), generator=generator)
    assert gradient_of(logits, target).abs().sum().item() == pytest.approx(1, rel=1e-5)


def test_huge_logits_average_over_what_is_wrong() -> None:
    logits, target = torch.tensor([3.0, -1.0, 0.5, -2.0]) * 1e4, torch.tensor([1, 1, 0, 0])
    torch.testing.assert_close(gradient_of(logits, target), torch.tensor([0.0, -0.5, 0.5, 0.0]))


def test_what_is_right_keeps_its_ratios_where_the_logistic_loss_underflows() -> None:
    gradient = gradient_of(torch.tensor([1000.0, 1001.0, 1004.0]), torch.ones(3))
    ratios = [1, math.exp(-1), math.exp(-4)]
    torch.testing.assert_close(gradient, torch.tensor([-r / sum(ratios) for r in ratios]))
    assert normalized_logistic(torch.tensor([1000.0, 1001.0]), torch.ones(2)).item() == pytest.approx(1)


def test_a_soft_label_is_two_samples() -> None:
    soft = normalized_logistic(torch.tensor([0.7, -0.2]), torch.tensor([0.25, 1.0]))
    listed = normalized_logistic(torch.tensor([0.7] * 4 + [-0.2] * 4), torch.tensor([1.0, 0.0, 0.0, 0.0] + [1.0] * 4))
    torch.testing.assert_close(soft, listed)


@pytest.mark.parametrize("size", [1.0, 1e4])
def test_a_target_that_is_learned_has_a_gradient_where_it_is_0_or_1_too(size: float) -> None:
    logits, target = size * torch.tensor([0.7, -0.2, 1.3]), torch.tensor([1.0, 1.0, 0.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(normalized_logistic(logits, target), target)
    weights = [1 / (1 + math.exp(min(m, 700.0))) for m in (0.7 * size, -0.2 * size, -1.3 * size)]
    torch.testing.assert_close(gradient, -logits / sum(weights))  # softplus(-z) - softplus(z) = -z


def test_logarithm_of_softplus_has_its_digits_on_both_sides() -> None:
    for x in (-500.0, -30.5, -30.0, -29.5, -1.0, 0.0, 20.5, 400.0):
        # log1p(u) / u for the small u = e^x, whose logarithm is all that is left of it
        expected = x + math.log1p(-math.exp(x) / 2) if x < -20 else math.log(math.log1p(math.exp(x)) if x < 300 else x)
        given = torch.tensor(x, dtype=torch.float64, requires_grad=True)
        value = log_softplus(given)
        value.backward()
        assert value.item() == pytest.approx(expected, rel=1e-14)
        slope = 1 - math.exp(x) / 2 if x < -20 else 1 / (1 + math.exp(-x)) / (math.log1p(math.exp(x)) if x < 300 else x)
        assert given.grad is not None
        assert given.grad.item() == pytest.approx(slope, rel=1e-12)


def iterations(loss: Callable[[Tensor, Tensor], Tensor], rate: float, rows: int = 1000) -> int:
    """Steps of gradient descent until every row is on its side: all are equal but one, which the others outvote."""
    features = torch.tensor([[1.0, 0.1]] * (rows - 1) + [[-0.5, 0.5]], dtype=torch.float64)
    theta, target = torch.zeros(2, dtype=torch.float64, requires_grad=True), torch.ones(rows, dtype=torch.float64)
    for step in range(1000):
        logits = features @ theta
        if (logits > 0).all():
            return step
        (gradient,) = torch.autograd.grad(loss(logits, target), theta)
        with torch.no_grad():
            theta -= rate * gradient
    raise AssertionError("not separated in 1000 steps")


def test_separates_in_two_steps_what_takes_the_others_hundreds() -> None:
    assert iterations(normalized_logistic, 10.0) == 2
    assert iterations(normalized_logistic, 1e4) == 2
    assert iterations(binary_cross_entropy, 100.0) == 470
    assert iterations(batch_perceptron, 1.0) == iterations(binary_cross_entropy, 1e6) == 451
