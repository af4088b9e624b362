"""What is true of the loss of CLIP alone."""

import math

import pytest
import torch
from tests.losses.contrastive.common import agree, value_and_gradients, views
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from lossary.losses import CLIPLoss

MATRIX = 400


def matrix_form(loss: CLIPLoss, a: Tensor, b: Tensor, reduction: str) -> Tensor:
    z, own = loss.log_scale.exp() * normalize(a) @ normalize(b).T, torch.arange(len(a))
    return (cross_entropy(z, own, reduction=reduction) + cross_entropy(z.T, own, reduction=reduction)) / 2


@pytest.mark.parametrize("n", [9, MATRIX, 1300])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_is_the_matrix_form(n: int, reduction: str) -> None:
    loss = CLIPLoss(reduction=reduction).double()  # type: ignore[arg-type]
    inputs, own = views(n), list(loss.parameters())
    agree(
        value_and_gradients(loss, inputs, own),
        value_and_gradients(lambda a, b: matrix_form(loss, a, b, reduction), inputs, own),
        1e-7 if n == 9 else 1e-9,
    )


def test_a_scale_beyond_the_exponential() -> None:
    # Every score but those of one row is 200 or more below the largest, which one common shift would make 0.
    loss = CLIPLoss(init_log_scale=math.log(400))
    a, b = views(MATRIX, 64, torch.float32, noise=8.0)
    with torch.no_grad():
        b[0] = a[0]
    found, expected = value_and_gradients(loss, (a, b)), value_and_gradients(loss.double(), [x.double() for x in (a, b)])
    agree([x.double() for x in found], expected, 1e-4)


def test_symmetric() -> None:
    a, b = views(MATRIX)
    loss = CLIPLoss().double()
    torch.testing.assert_close(loss(a, b), loss(b, a))


def test_embeddings_that_are_all_alike_cost_the_logarithm_of_their_number() -> None:
    x = torch.ones(MATRIX, 3)
    assert CLIPLoss()(x, x).item() == pytest.approx(math.log(MATRIX), rel=1e-5)


def test_second_derivatives_of_a_large_batch() -> None:
    loss = CLIPLoss().double()
    a, b = views(300, 3)
    (gradient,) = torch.autograd.grad(loss(a, b), a, create_graph=True)
    (expected,) = torch.autograd.grad(matrix_form(loss, a, b, "mean"), a, create_graph=True)
    agree(torch.autograd.grad(gradient.square().sum(), [a, b]), torch.autograd.grad(expected.square().sum(), [a, b]))
