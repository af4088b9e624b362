"""The estimates of a sampler's scores against exact expectations, summed over every possible draw."""

import itertools
import math

import numpy as np
import pytest
import torch

from lossary.errors import InvalidTypeError, InvalidValueError
from lossary.metrics import black_box_cross_entropy, black_box_quadratic

P, Q = (0.05, 0.7, 0.25), (0.2, 0.5, 0.3)  # a model that is too sure of itself, and the target


def draws(distribution: tuple[float, ...], n: int) -> list[tuple[tuple[int, ...], float]]:
    """Every sequence of n draws with its probability."""
    return [(found, math.prod(distribution[x] for x in found)) for found in itertools.product(range(len(distribution)), repeat=n)]


@pytest.mark.parametrize(("n", "m"), [(2, 1), (3, 2), (4, 1)])
def test_the_quadratic_score_has_no_bias(n: int, m: int) -> None:
    expected = sum(p * p for p in P) - 2 * sum(p * q for p, q in zip(P, Q, strict=True))
    average = sum(a * b * black_box_quadratic(x, y).item() for x, a in draws(P, n) for y, b in draws(Q, m))
    assert average == pytest.approx(expected)


@pytest.mark.parametrize("model", [P, Q])
def test_with_the_target_term_it_is_the_squared_distance(model: tuple[float, ...]) -> None:
    average = sum(
        a * b * black_box_quadratic(x, y, include_target_term=True).item() for x, a in draws(model, 2) for y, b in draws(Q, 2)
    )
    assert average == pytest.approx(sum((p - q) ** 2 for p, q in zip(model, Q, strict=True)), abs=1e-12)


def test_the_plug_in_distance_prefers_the_wrong_model_and_this_does_not() -> None:
    def plug_in(x: tuple[int, ...], y: tuple[int, ...]) -> float:
        return sum((x.count(c) / len(x) - y.count(c) / len(y)) ** 2 for c in range(3))

    averages = [sum(a * b * plug_in(x, y) for x, a in draws(model, 2) for y, b in draws(Q, 2)) for model in (P, Q)]
    assert averages[0] < averages[1]  # 0.605 against 0.62
    scores = [sum(a * b * black_box_quadratic(x, y).item() for x, a in draws(model, 2) for y, b in draws(Q, 2)) for model in (P, Q)]
    assert scores[0] > scores[1]


def test_the_cross_entropy_has_no_bias() -> None:
    """Over Poisson numbers of draws; of these only how many differ from y matters, which is binomial."""
    rate, p_of_y = 3.0, P[1]
    average = 0.0
    for n in range(60):
        chance = math.exp(-rate) * rate**n / math.factorial(n)
        for hits in range(n + 1):
            binomial = math.comb(n, hits) * p_of_y**hits * (1 - p_of_y) ** (n - hits)
            average += chance * binomial * black_box_cross_entropy([1] * hits + [0] * (n - hits), [1], rate=rate).item()
    assert average == pytest.approx(-math.log(p_of_y), rel=1e-6)


def test_the_cross_entropy_matches_its_sum_of_falling_powers() -> None:
    model, target = torch.tensor([0, 0, 1, 2, 2, 2]), torch.tensor([0, 3, 3, 3])
    expected = 0.0
    for different in (4, 6, 6, 6):
        for k in range(1, different + 1):
            expected += math.perm(different, k) / (k * 2.5**k) / 4
    assert black_box_cross_entropy(model, target, rate=2.5).item() == pytest.approx(expected)


def test_no_draws_at_all_are_a_poisson_number_too() -> None:
    assert black_box_cross_entropy([], ["a"]).item() == 0
    assert black_box_cross_entropy(torch.tensor([], dtype=torch.int64), torch.tensor([1])).item() == 0


def test_outcomes_can_be_anything_hashable() -> None:
    words, codes = (["cat", "dog", "cat"], ["dog"]), (torch.tensor([7, 9, 7]), torch.tensor([9]))
    assert black_box_quadratic(*words) == black_box_quadratic(*codes)
    assert black_box_quadratic(*words).item() == pytest.approx(1 / 3 - 2 / 3)


def test_refusals() -> None:
    with pytest.raises(InvalidValueError, match="black_box_quadratic: model_samples must be at least 2 samples, got 1"):
        black_box_quadratic([1], [1])
    with pytest.raises(InvalidValueError, match="target_samples must be at least 2 samples, got 1"):
        black_box_quadratic([1, 2], [1], include_target_term=True)
    with pytest.raises(InvalidTypeError, match=r"model_samples must be integers, or made discrete first, got torch\.float32"):
        black_box_quadratic(torch.tensor([0.1, 0.2]), [1])
    for numbers in ([0.1, 0.1], np.array([0.1, 0.2], dtype=np.float32), [1, 1j]):
        with pytest.raises(InvalidTypeError, match=r"model_samples must be integers, or made discrete first, got (float|complex)"):
            black_box_quadratic(numbers, [1])
    with pytest.raises(InvalidTypeError, match="target_samples must be one tensor or outcomes that are none, got a sequence of t"):
        black_box_quadratic([1, 1], list(torch.tensor([1, 1])))
    with pytest.raises(InvalidTypeError, match="black_box_cross_entropy: target_samples must be a tensor or a sequence"):
        black_box_cross_entropy([1], "abc")
    with pytest.raises(InvalidTypeError, match="model_samples must be hashable outcomes, got some that are not"):
        black_box_quadratic([[1], [2]], [1])  # type: ignore[list-item]
    with pytest.raises(InvalidValueError, match=r"model_samples must have shape \(4,\), got \(2, 2\)"):
        black_box_quadratic(torch.ones(2, 2, dtype=torch.int64), [1])
    with pytest.raises(InvalidValueError, match=r"black_box_cross_entropy: rate must be a finite number > 0, got 0\.0"):
        black_box_cross_entropy([1], [1], rate=0.0)
