"""What is true of InfoNCE with the hardest negatives alone."""

import math

import pytest
import torch
from tests.losses.contrastive.common import agree, value_and_gradients, views
from torch import Tensor
from torch.nn.functional import normalize

from lossary.losses.contrastive.hard_contrastive import hard_contrastive
from lossary.losses.contrastive.info_nce import info_nce

MATRIX = 400


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("n", [6, MATRIX])
def test_is_a_softmax_over_the_sorted_row(n: int, reduction: str) -> None:
    inputs = views(n)

    def matrix_form(a: Tensor, b: Tensor) -> Tensor:
        s = normalize(a) @ normalize(b).T / 0.2
        near = s.masked_fill(torch.eye(n, dtype=torch.bool), -99.0).sort(1, descending=True).values
        near = near[:, : max(1, math.ceil(0.1 * (n - 1)))]
        rows = torch.cat([s.diagonal().unsqueeze(1), near], 1).logsumexp(1) - s.diagonal()
        return rows.mean() if reduction == "mean" else rows

    def ours(a: Tensor, b: Tensor) -> Tensor:
        return hard_contrastive(a, b, temperature=0.2, hard_fraction=0.1, reduction=reduction)  # type: ignore[arg-type]

    agree(value_and_gradients(ours, inputs), value_and_gradients(matrix_form, inputs))


@pytest.mark.parametrize("n", [6, MATRIX])
def test_all_negatives_make_info_nce(n: int) -> None:
    inputs = views(n)
    agree(
        value_and_gradients(lambda a, b: hard_contrastive(a, b, hard_fraction=1.0), inputs),
        value_and_gradients(info_nce, inputs),
    )


def test_of_negatives_that_tie_as_many_are_kept_as_are_wanted() -> None:
    a, b = torch.ones(11, 2), torch.ones(11, 2)
    found = hard_contrastive(a, b, hard_fraction=0.25)  # 3 of 10
    assert found.item() == pytest.approx(math.log(4), rel=1e-5)


def test_a_far_negative_has_no_gradient() -> None:
    a, b = views(6)
    (gradient,) = torch.autograd.grad(hard_contrastive(a, b, hard_fraction=0.1, reduction="none")[0], b)
    assert (gradient.abs().sum(1) > 0).sum() == 2  # the positive and one negative


@pytest.mark.parametrize("n", [0, 1])
def test_without_negatives_there_is_nothing_to_do(n: int) -> None:
    a = torch.ones(n, 4, requires_grad=True)
    value = hard_contrastive(a, torch.ones(n, 4))
    assert value.item() == 0
    assert torch.autograd.grad(value, a)[0].abs().sum() == 0
