"""What is true of the quadratic score on draws alone; the conformance suite does the rest."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from lossary.errors import InvalidValueError
from lossary.losses.classification.black_box_quadratic import BlackBoxQuadraticLoss, black_box_quadratic

LOGITS = [0.4, -0.8, 0.9]


def softmax() -> list[float]:
    return [math.exp(z) / sum(map(math.exp, LOGITS)) for z in LOGITS]


def noise_for(draws: tuple[int, ...]) -> Tensor:
    """Numbers in the middle of what belongs to each class."""
    p = softmax()
    return torch.tensor([[sum(p[:x]) + p[x] / 2 for x in draws]], dtype=torch.float64)


def score(draws: tuple[int, ...], label: int) -> float:
    n = len(draws)
    equal = sum(draws[i] == draws[j] for i in range(n) for j in range(n) if i != j)
    return equal / (n * (n - 1)) - 2 / n * draws.count(label)


@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize("label", [0, 1])
def test_value_and_gradient_are_without_bias(n: int, label: int) -> None:
    """The average over all possible draws, each with its probability, is the exact score and its exact gradient."""
    p = softmax()
    value, gradient = 0.0, torch.zeros(1, 3, dtype=torch.float64)
    for draws in itertools.product(range(3), repeat=n):
        logits = torch.tensor([LOGITS], dtype=torch.float64, requires_grad=True)
        loss = black_box_quadratic(logits, torch.tensor([label]), noise_for(draws), num_draws=n)
        assert loss.item() == pytest.approx(score(draws, label))
        chance = math.prod(p[x] for x in draws)
        value += chance * loss.item()
        gradient += chance * torch.autograd.grad(loss, logits)[0]
    exact_logits = torch.tensor([LOGITS], dtype=torch.float64, requires_grad=True)
    q = exact_logits.softmax(1)[0]
    exact = q.square().sum() - 2 * q[label]
    assert value == pytest.approx(exact.item())
    torch.testing.assert_close(gradient, torch.autograd.grad(exact, exact_logits)[0])


@pytest.mark.parametrize("draws", [(0, 0, 2), (1, 2, 0), (2, 2, 2, 0), (1, 0)])
def test_the_gradient_is_the_score_function_less_what_the_other_draws_cost(draws: tuple[int, ...]) -> None:
    n, label, p = len(draws), 2, softmax()
    expected = [0.0, 0.0, 0.0]
    for i, x in enumerate(draws):
        rest = [y for j, y in enumerate(draws) if j != i]
        cost = 2 / (n - 1) * rest.count(x) - 2 * (x == label)
        without = 0.0
        for j, y in enumerate(rest):
            others = [z for m, z in enumerate(rest) if m != j]
            without += (2 / (n - 2) * others.count(y) if n > 2 else 0.0) - 2 * (y == label)
        for c in range(3):  # the gradient of log p_x
            expected[c] += (cost - without / (n - 1)) / n * (float(c == x) - p[c])
    logits = torch.tensor([LOGITS], dtype=torch.float64, requires_grad=True)
    loss = black_box_quadratic(logits, torch.tensor([label]), noise_for(draws), num_draws=n)
    (gradient,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(gradient, torch.tensor([expected], dtype=torch.float64))


def test_draws_have_the_probabilities_of_the_model() -> None:
    logits = torch.tensor([LOGITS]).expand(2000, 3)
    loss = BlackBoxQuadraticLoss(num_draws=20, generator=torch.Generator().manual_seed(0))
    # 40000 draws: a standard error of 0.0025 for the share of hits; the score of label c is linear in it
    p = softmax()
    for label in range(3):
        value = loss(logits, torch.full((2000,), label)).item()
        assert value == pytest.approx(sum(v * v for v in p) - 2 * p[label], abs=0.03)


def test_never_draws_what_has_no_probability() -> None:
    logits = torch.tensor([[0.0, -1e4, 0.0, -1e4]])
    for u in (0.0, 0.25, 0.5, 1 - 2**-24):  # the ends of what a uniform generator returns, and a boundary
        value = black_box_quadratic(logits, torch.tensor([1]), torch.full((1, 2), u), num_draws=2)
        assert value.item() == 1
        assert black_box_quadratic(logits, torch.tensor([3]), torch.full((1, 2), u), num_draws=2).item() == 1


def test_a_soft_target_averages_classes_for_the_same_draws() -> None:
    logits, q = torch.tensor([LOGITS], dtype=torch.float64), torch.tensor([[0.2, 0.5, 0.3]], dtype=torch.float64)
    noise = noise_for((0, 2, 2, 1))
    expected = sum(w * score((0, 2, 2, 1), c) for c, w in enumerate((0.2, 0.5, 0.3)))
    assert black_box_quadratic(logits, q, noise).item() == pytest.approx(expected)


def test_maps_draw_for_each_place() -> None:
    logits = torch.tensor(LOGITS, dtype=torch.float64).view(1, 3, 1).expand(1, 3, 2)
    noise = torch.stack([noise_for((0, 0)), noise_for((1, 2))], 2)
    value = black_box_quadratic(logits, torch.tensor([[0, 0]]), noise, num_draws=2, reduction="none")
    assert value.tolist() == [pytest.approx([score((0, 0), 0), score((1, 2), 0)])]


def test_draws_follow_the_generator_and_leave_the_global_state_alone() -> None:
    logits, target = torch.zeros(20, 5), torch.zeros(20, dtype=torch.int64)
    before = torch.get_rng_state()
    first, second = (BlackBoxQuadraticLoss(generator=torch.Generator().manual_seed(1))(logits, target) for _ in range(2))
    assert first == second
    assert torch.equal(torch.get_rng_state(), before)


def test_noise_has_to_fit() -> None:
    with pytest.raises(InvalidValueError, match=r"black_box_quadratic: noise must have shape \(1, 4\), got \(1, 3\)"):
        black_box_quadratic(torch.zeros(1, 3), torch.tensor([0]), torch.zeros(1, 3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_has_the_gradient_of_double_precision(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    rounded, target = (3 * torch.randn(50, 6, generator=generator)).to(dtype), torch.randint(6, (50,), generator=generator)
    noise = torch.rand(50, 4, generator=generator)
    values, gradients = [], []
    for logits in (rounded, rounded.double()):
        leaf = logits.clone().requires_grad_()
        loss = black_box_quadratic(leaf, target, noise, reduction="none")
        values.append(loss.double())
        gradients.append(torch.autograd.grad(loss.sum(), leaf)[0].double())
    torch.testing.assert_close(*values, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(*gradients, rtol=torch.finfo(dtype).eps, atol=1e-6)
