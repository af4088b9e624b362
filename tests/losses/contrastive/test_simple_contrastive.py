"""What is true of the simple contrastive loss alone."""

import pytest
import torch
from tests.losses.contrastive.common import agree, value_and_gradients, views
from torch import Tensor
from torch.nn.functional import normalize

from lossary.losses.contrastive.info_nce import info_nce
from lossary.losses.contrastive.simple_contrastive import simple_contrastive

MATRIX = 400


@pytest.mark.parametrize("n", [5, MATRIX])
@pytest.mark.parametrize("weight", [None, 0.3])
@pytest.mark.parametrize("hard", [None, 0.1])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_is_the_matrix_form(n: int, weight: float | None, hard: float | None, reduction: str) -> None:
    inputs = views(n)

    def matrix_form(a: Tensor, b: Tensor) -> Tensor:
        s = normalize(a) @ normalize(b).T
        negatives = s.masked_fill(torch.eye(n, dtype=torch.bool), -9.0).sort(1, descending=True).values[:, : n - 1]
        if hard is not None:
            negatives = negatives[:, : max(1, -int(-hard * (n - 1) // 1))]
        rows = negatives.mean(1) if weight is None else weight * negatives.sum(1)
        return (rows - s.diagonal()).mean() if reduction == "mean" else rows - s.diagonal()

    def ours(a: Tensor, b: Tensor) -> Tensor:
        return simple_contrastive(a, b, negative_weight=weight, hard_fraction=hard, reduction=reduction)  # type: ignore[arg-type]

    agree(value_and_gradients(ours, inputs), value_and_gradients(matrix_form, inputs))


def test_all_negatives_are_pushed_alike_where_info_nce_pushes_the_near_ones() -> None:
    a = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.1]], dtype=torch.float64)
    b = torch.tensor([[0.9, 0.5], [0.8, 0.6], [-0.6, 0.8]], dtype=torch.float64, requires_grad=True)
    for loss, ratio in ((simple_contrastive, 1.0), (info_nce, 0.0)):
        value = loss(a, b, reduction="none")[0]  # of the first row: the second item is near, the third far
        gradient = torch.autograd.grad(value, b)[0]
        tangent = torch.tensor([0.6, 0.8], dtype=torch.float64)  # both are as far turned from the row
        pushes = gradient[1:].norm(dim=1) / tangent[[1, 1]] * torch.tensor([0.8 / 0.6, 1.0], dtype=torch.float64)
        assert pushes[1] / pushes[0] == pytest.approx(ratio, abs=1e-6)


def test_one_pair_is_minus_its_cosine() -> None:
    assert simple_contrastive(torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.0]])).item() == pytest.approx(-0.6)
