"""Means of bags, and their noise: against loops, the Laplace distribution, and what privacy asks for."""

import math

import pytest
import torch

from lossary.data import aggregate, private_aggregate
from lossary.errors import InvalidTypeError, InvalidValueError


def test_matches_a_loop() -> None:
    target = torch.randn(20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    bag = torch.tensor([4, 0, 0, 2, 4] * 4)
    values, bags = target.tolist(), bag.tolist()
    expected = []
    for a in range(5):
        inside = [y for y, b in zip(values, bags, strict=True) if a == b]
        expected.append(sum(inside) / len(inside) if inside else 0.0)
    assert aggregate(target, bag).tolist() == pytest.approx(expected)
    assert aggregate(target[:0], bag[:0]).tolist() == []


def test_bags_of_one_are_the_targets() -> None:
    target = torch.rand(6)
    assert torch.equal(aggregate(target, torch.arange(6)), target)


def test_half_precision_is_summed_in_single() -> None:
    means = aggregate(torch.full((70_000,), 10.0, dtype=torch.float16), torch.zeros(70_000, dtype=torch.int64))
    assert means.dtype == torch.float32
    assert float(means) == 10.0


def test_without_noise_only_the_clipping_is_left() -> None:
    target, bag = torch.tensor([-9.0, 1.0, 2.0, 9.0]), torch.tensor([0, 0, 1, 1])
    means = private_aggregate(target, bag, epsilon=1e12, bound=3.0)
    assert means.tolist() == pytest.approx([-1.0, 2.5], abs=1e-6)
    assert target.tolist() == [-9.0, 1.0, 2.0, 9.0]


def test_the_noise_is_laplace_of_the_sensitivity_over_epsilon() -> None:
    sizes, bound, epsilon = 4, 2.0, 0.5
    bag = torch.arange(200_000).repeat_interleave(sizes)
    noise = private_aggregate(torch.zeros(len(bag)), bag, epsilon, bound, generator=torch.Generator().manual_seed(0)).double()
    scale = 2 * bound / (sizes * epsilon)
    for level in (0.05, 0.3, 0.5, 0.8, 0.99):
        quantile = -scale * math.copysign(1.0, level - 0.5) * math.log(1 - 2 * abs(level - 0.5))
        assert float(noise.quantile(level)) == pytest.approx(quantile, abs=0.05 * scale)
    assert float(noise.abs().mean()) == pytest.approx(scale, rel=0.02)


def test_changing_one_response_changes_no_probability_by_more_than_epsilon() -> None:
    """The mean moves by at most 2 b / k; a Laplace density of this scale then changes by a factor of at most e^epsilon."""
    bound, epsilon, bag = 1.0, 0.7, torch.zeros(5, dtype=torch.int64)
    low, high = torch.full((5,), 0.3), torch.full((5,), 0.3)
    low[2], high[2] = -1e9, 1e9
    draws = [private_aggregate(t, bag, epsilon, bound, generator=torch.Generator().manual_seed(1)) for t in (low, high)]
    shift = float(draws[1] - draws[0])  # the same noise, so only the means differ
    assert shift == pytest.approx(2 * bound / 5)
    assert shift / (2 * bound / (5 * epsilon)) == pytest.approx(epsilon)


def test_every_draw_is_new_and_the_global_random_state_is_left_alone() -> None:
    target, bag = torch.ones(4), torch.tensor([0, 0, 1, 1])
    before = torch.get_rng_state()
    first, second = (private_aggregate(target, bag, 1.0, 1.0) for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_number_that_no_sample_has_stays_zero() -> None:
    assert private_aggregate(torch.ones(2), torch.tensor([0, 2]), 1.0, 1.0)[1] == 0.0


def test_mistakes_are_named() -> None:
    target, bag = torch.ones(3), torch.zeros(3, dtype=torch.int64)
    with pytest.raises(InvalidValueError, match=r"aggregate: bag must have shape \(3,\), got \(2,\)"):
        aggregate(target, bag[:2])
    with pytest.raises(InvalidTypeError, match=r"aggregate: bag must be integers, got torch\.float32"):
        aggregate(target, target)
    with pytest.raises(InvalidValueError, match="aggregate: bag must be numbers from 0, got -1"):
        aggregate(target, bag - 1)
    with pytest.raises(InvalidTypeError, match="private_aggregate: target must be floating point"):
        private_aggregate(bag, bag, 1.0, 1.0)
    with pytest.raises(InvalidValueError, match="private_aggregate: epsilon must be a finite number > 0, got 0"):
        private_aggregate(target, bag, 0, 1.0)
