"""Uniformity against a loop, and at its ends."""

import math

import pytest
import torch

from lossary.errors import InvalidValueError
from lossary.metrics import uniformity


def test_is_a_loop_over_pairs() -> None:
    x = torch.randn(7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z = [row / row.norm() for row in x]
    terms = [math.exp(-1.5 * float((z[i] - z[j]).square().sum())) for i in range(7) for j in range(i)]
    assert uniformity(x, t=1.5).item() == pytest.approx(math.log(sum(terms) / len(terms)), rel=1e-12)


def test_a_large_set_in_blocks_has_value_and_gradient_of_the_whole() -> None:
    x = torch.randn(500, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    z = torch.nn.functional.normalize(x)
    expected = torch.pdist(z).square().mul(-2).exp().mean().log()
    torch.testing.assert_close(uniformity(x), expected)
    torch.testing.assert_close(torch.autograd.grad(uniformity(x), x)[0], torch.autograd.grad(expected, x)[0])


def test_all_on_one_side_is_zero_and_two_ends_are_the_least() -> None:
    assert uniformity(torch.ones(5, 2)).item() == pytest.approx(0, abs=1e-6)
    assert uniformity(torch.tensor([[2.0, 0.0], [-1.0, 0.0]])).item() == pytest.approx(-8)


def test_uniform_in_many_dimensions_is_near_minus_two_t() -> None:
    x = torch.randn(800, 400, generator=torch.Generator().manual_seed(0))
    assert uniformity(x).item() == pytest.approx(-4, abs=0.05)


def test_one_embedding_has_no_pair() -> None:
    assert uniformity(torch.ones(1, 2)).item() == 0


def test_refuses_what_is_no_matrix() -> None:
    with pytest.raises(InvalidValueError, match=r"uniformity: x must have shape \(N, D\), got \(3,\)"):
        uniformity(torch.ones(3))
