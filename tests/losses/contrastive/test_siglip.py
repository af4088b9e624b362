"""What is true of SigLIP alone."""

import math

import pytest
import torch
from tests.losses.contrastive.common import agree, value_and_gradients, views
from torch import Tensor
from torch.nn.functional import logsigmoid, normalize

from lossary.losses import SigLIPLoss
from lossary.losses.contrastive.siglip import siglip

REDUCTIONS = ("mean", "sum", "none")
MATRIX = 400  # rows of which the matrix is larger than what is computed whole


def matrix_form(loss: SigLIPLoss, a: Tensor, b: Tensor, reduction: str) -> Tensor:
    z = loss.log_scale.exp() * normalize(a) @ normalize(b).T + loss.bias
    rows = -logsigmoid((2 * torch.eye(len(a), dtype=z.dtype) - 1) * z).sum(1)
    return rows if reduction == "none" else rows.mean() if reduction == "mean" else rows.sum()


def test_matches_a_loop_over_pairs() -> None:
    a, b = (x.detach() for x in views(3, 2))
    expected = 0.0
    for i, x in enumerate(a.tolist()):
        for j, y in enumerate(b.tolist()):
            cosine = sum(p * q for p, q in zip(x, y, strict=True)) / math.hypot(*x) / math.hypot(*y)
            z = 4.0 * cosine - 1.5
            expected += math.log1p(math.exp(-z if i == j else z)) / 3
    found = siglip(a, b, torch.tensor(math.log(4.0), dtype=torch.float64), torch.tensor(-1.5))
    assert found.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("chunks", [1, 7, MATRIX + 1])
def test_any_chunks_are_the_matrix(reduction: str, chunks: int) -> None:
    loss = SigLIPLoss(chunks=chunks, init_bias=-4.0, reduction=reduction).double()  # type: ignore[arg-type]
    inputs, own = views(MATRIX), list(loss.parameters())
    expected = value_and_gradients(lambda a, b: matrix_form(loss, a, b, reduction), inputs, own)
    agree(value_and_gradients(loss, inputs, own), expected)


def test_a_and_b_may_change_places() -> None:
    a, b = views(MATRIX)
    loss = SigLIPLoss().double()
    torch.testing.assert_close(loss(a, b), loss(b, a))


def test_one_pair_is_one_logistic_term() -> None:
    a = torch.tensor([[3.0, 4.0]])
    found = SigLIPLoss(init_log_scale=0.0, init_bias=0.5)(a, torch.tensor([[2.0, 0.0]]))
    assert found.item() == pytest.approx(math.log1p(math.exp(-0.6 - 0.5)), rel=1e-6)


@pytest.mark.parametrize("bias", [-300.0, 300.0])
def test_the_bias_is_pulled_by_less_than_all_pairs_of_a_row(bias: float) -> None:
    loss = SigLIPLoss(init_bias=bias)
    value = loss(*views(MATRIX, dtype=torch.float32))
    assert value.isfinite()
    (pull,) = torch.autograd.grad(value, loss.bias)
    assert pull.abs().item() == pytest.approx(1.0 if bias < 0 else MATRIX - 1, rel=1e-5)


def test_a_certain_positive_keeps_its_small_gradient() -> None:
    # At z = 30 the sigmoid is 1 in float32, so that its difference from 1 would be 0.
    a = torch.eye(MATRIX).requires_grad_()
    loss = SigLIPLoss(init_log_scale=math.log(130), init_bias=-100.0)
    (pull,) = torch.autograd.grad(loss(a, torch.eye(MATRIX)), loss.bias)
    assert pull.item() == pytest.approx(-math.exp(-30.0), rel=1e-3)


def test_second_derivatives_of_a_large_batch() -> None:
    loss = SigLIPLoss(init_bias=-2.0).double()
    a, b = views(300, 3)
    (gradient,) = torch.autograd.grad(loss(a, b), a, create_graph=True)
    (expected,) = torch.autograd.grad(matrix_form(loss, a, b, "mean"), a, create_graph=True)
    agree(torch.autograd.grad(gradient.square().sum(), [a, b]), torch.autograd.grad(expected.square().sum(), [a, b]))


def test_backward_twice_gives_the_same_gradient_twice() -> None:
    a, b = views(MATRIX)
    value = SigLIPLoss().double()(a, b)
    first, second = (torch.autograd.grad(2 * value, a, retain_graph=True)[0].clone() for _ in range(2))
    torch.testing.assert_close(first, second)


def test_a_fixed_scale_is_not_trained() -> None:
    assert not any(p.requires_grad for p in SigLIPLoss(learnable=False).parameters())
    assert {name for name, _ in SigLIPLoss().named_parameters()} == {"log_scale", "bias"}
