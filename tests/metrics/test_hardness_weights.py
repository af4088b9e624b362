"""Hardness weights are what the gradient of InfoNCE does."""

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from lossary.metrics import hardness_weights


def test_are_the_derivatives_by_negatives_over_that_by_the_positive() -> None:
    a, b = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    s = (normalize(a) @ normalize(b).T).requires_grad_()
    (slope,) = torch.autograd.grad(cross_entropy(s / 0.2, torch.arange(6), reduction="sum"), s)
    expected = slope / -slope.diagonal().unsqueeze(1)
    torch.testing.assert_close(hardness_weights(a, b, temperature=0.2), expected.fill_diagonal_(0.0))


@pytest.mark.parametrize(("temperature", "largest"), [(1e-4, 1.0), (1e4, 1 / 5)])
def test_the_temperature_decides_between_the_nearest_and_all(temperature: float, largest: float) -> None:
    a, b = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(1))
    found = hardness_weights(a, b, temperature)
    torch.testing.assert_close(found.amax(1), torch.full((6,), largest), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found.sum(1), torch.ones(6))


def test_one_pair_has_no_negative() -> None:
    assert hardness_weights(torch.ones(1, 2), torch.ones(1, 2)).tolist() == [[0.0]]
