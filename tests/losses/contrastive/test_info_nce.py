"""What is true of InfoNCE alone."""

import math

import pytest
import torch
from tests.losses.contrastive.common import agree, value_and_gradients, views
from torch.nn.functional import cross_entropy, normalize

from lossary.losses import InfoNCELoss
from lossary.losses.contrastive.info_nce import info_nce

MATRIX = 400


@pytest.mark.parametrize("n", [9, MATRIX, 2100])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_is_cross_entropy_of_the_matrix(n: int, reduction: str) -> None:
    inputs = views(n, 4)

    def matrix_form(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return cross_entropy(normalize(a) @ normalize(b).T / 0.2, torch.arange(n), reduction=reduction)

    loss = InfoNCELoss(temperature=0.2, reduction=reduction)  # type: ignore[arg-type]
    agree(value_and_gradients(loss, inputs), value_and_gradients(matrix_form, inputs), 1e-8)


def test_a_small_temperature_is_a_triplet_loss_without_margin() -> None:
    a, b = (x.detach() for x in views(12))
    s = normalize(a) @ normalize(b).T
    hardest = s.masked_fill(torch.eye(12, dtype=torch.bool), -2.0).amax(1)
    expected = (hardest - s.diagonal()).clamp_min(0)
    torch.testing.assert_close(1e-4 * info_nce(a, b, temperature=1e-4, reduction="none"), expected, rtol=1e-6, atol=1e-6)


def test_a_large_temperature_is_the_simple_loss() -> None:
    a, b = (x.detach() for x in views(12))
    s, temperature = normalize(a) @ normalize(b).T, 1e4
    expected = math.log(12) - (s.diagonal() - s.mean(1)) / temperature
    torch.testing.assert_close(info_nce(a, b, temperature=temperature, reduction="none"), expected, rtol=1e-9, atol=1e-8)


def test_a_row_pulls_as_much_as_it_pushes() -> None:
    # The derivatives by a row's similarities add up to 0: a direction in which all items have one part does not pull the row.
    a, b = (x.detach() for x in views(MATRIX))
    a[:, 0] = 0.0
    b = torch.cat([torch.full((MATRIX, 1), 0.5, dtype=b.dtype), normalize(b[:, 1:]) * 0.75**0.5], 1)
    (gradient,) = torch.autograd.grad(info_nce(a.requires_grad_(), b), a)
    assert gradient[:, 0].abs().max() < 1e-12
    assert gradient[:, 1:].abs().amax(0).min() > 1e-6


def test_half_precision_is_computed_in_single() -> None:
    a, b = views(MATRIX, 32, torch.bfloat16)
    loss = InfoNCELoss(temperature=0.01)
    value = loss(a, b)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(loss(a.double(), b.double()).item(), rel=1e-3)
    (gradient,) = torch.autograd.grad(value, a)
    assert gradient.dtype == torch.bfloat16
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0


def test_autocast_does_not_reach_the_scores() -> None:
    a, b = views(MATRIX, 32, torch.float32)
    loss = InfoNCELoss()
    expected = loss(a, b)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss(a, b)
        (gradient,) = torch.autograd.grad(found, a)
    assert found.equal(expected)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, a)[0])


@pytest.mark.parametrize("n", [0, 1])
def test_without_negatives_there_is_nothing_to_do(n: int) -> None:
    a = torch.ones(n, 4, requires_grad=True)
    value = info_nce(a, torch.ones(n, 4))
    assert value.item() == 0
    assert torch.autograd.grad(value, a)[0].abs().sum() == 0
