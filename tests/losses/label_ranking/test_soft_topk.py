"""What is true of soft top-k alone; the conformance suite does the rest."""

import math
from functools import partial

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.func import grad, vmap

from lossary.errors import InvalidValueError
from lossary.losses.label_ranking.soft_topk import SoftTopkLoss, membership, soft_topk


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def threshold(scores: list[float], k: int) -> float:
    low, high = -max(scores) - 100, -min(scores) + 100
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (low, middle) if sum(sigmoid(s + middle) for s in scores) > k else (middle, high)
    return low


@pytest.mark.parametrize("k", [1, 3, 7])
def test_matches_a_loop(k: int) -> None:
    generator = torch.Generator().manual_seed(k)
    logits = 2 * torch.randn(5, 8, dtype=torch.float64, generator=generator)
    target = torch.randint(2, (5, 8), generator=generator)
    target[:, 0] = 1
    expected = []
    for row, labels in zip(logits.tolist(), target.tolist(), strict=True):
        scores = [1.5 * v / 0.7 for v in row]
        t = threshold(scores, k)
        terms = [-math.log(sigmoid(s + t)) for s, y in zip(scores, labels, strict=True) if y]
        expected.append(sum(terms) / len(terms))
    value = soft_topk(logits, target, k=k, alpha=1.5, temperature=0.7, reduction="none")
    torch.testing.assert_close(value, logits.new_tensor(expected))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 30.0, 1e4])
@pytest.mark.parametrize("n_iter", [16, 32])
def test_memberships_sum_to_k(dtype: torch.dtype, scale: float, n_iter: int) -> None:
    logits = scale * torch.randn(4, 1000, dtype=dtype, generator=torch.Generator().manual_seed(0))
    for k in (1, 5, 500, 999):
        link = SoftTopkLoss(k=k, n_iter=n_iter).link(logits)
        torch.testing.assert_close(link.sum(1), torch.full((4,), float(k), dtype=dtype), rtol=100 * torch.finfo(dtype).eps, atol=0)


def test_a_hard_selection_picks_the_k_highest() -> None:
    logits = torch.tensor([[0.3, -1.0, 0.9, 0.4, 0.0]])
    link = SoftTopkLoss(k=2, alpha=1e4).link(logits)
    torch.testing.assert_close(link, torch.tensor([[0.0, 0.0, 1.0, 1.0, 0.0]]))


@pytest.mark.parametrize("gap", [50.0, 100.0, 1e3, 1e4])
def test_a_wide_gap_puts_the_threshold_where_what_is_lacking_balances_what_is_left(gap: float) -> None:
    """Two labels at +gap and three at -gap: 2 e^(-gap-t) = 3 e^(-gap+t), however far both are below what a float can hold."""
    logits = torch.tensor([[gap, gap, -gap, -gap, -gap]], dtype=torch.float64)
    t = membership(logits, 2, 1.0, 1.0, 32) - logits
    torch.testing.assert_close(t, torch.full_like(t, math.log(2 / 3) / 2), rtol=0, atol=1e-12 * gap)


def test_the_gradient_goes_through_the_threshold() -> None:
    logits = torch.tensor([[0.5, -0.3, 1.2, 0.1]], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(membership(logits, 2, 2.0, 1.0, 32)[0, 1], logits)
    t = threshold([2 * v for v in logits[0].tolist()], 2)
    slopes = [sigmoid(2 * v + t) * sigmoid(-2 * v - t) for v in logits[0].tolist()]
    expected = [2 * (float(j == 1) - slope / sum(slopes)) for j, slope in enumerate(slopes)]
    torch.testing.assert_close(gradient, gradient.new_tensor([expected]))


def test_is_differentiable_twice() -> None:
    logits = torch.randn(2, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    target = torch.tensor([[1, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 1]])
    for k in (1, 3, 5):
        loss = partial(soft_topk, target=target, k=k)
        assert gradcheck(loss, logits)
        assert gradgradcheck(loss, logits)


def test_second_derivatives_are_mapped_as_well() -> None:
    stack = torch.randn(3, 2, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    target = torch.tensor([[1, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 1]])

    def bent(z: torch.Tensor) -> torch.Tensor:
        gradient: torch.Tensor = grad(lambda x: soft_topk(x, target, k=2))(z)
        return gradient.square().sum()

    mapped = vmap(grad(bent))(stack)
    for z, found in zip(stack, mapped, strict=True):
        leaf = z.clone().requires_grad_()
        (first,) = torch.autograd.grad(soft_topk(leaf, target, k=2), leaf, create_graph=True)
        (expected,) = torch.autograd.grad(first.square().sum(), leaf)
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_right_label_that_is_missing_is_pulled_up(dtype: torch.dtype) -> None:
    logits = torch.zeros(1, 8, dtype=dtype)
    logits[0, 0] = -1e4
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(soft_topk(logits, torch.eye(1, 8)), logits)
    assert gradient[0, 0].item() == pytest.approx(-2.0)  # alpha


def test_a_row_without_positives_is_left_out() -> None:
    logits, target = torch.randn(3, 6, generator=torch.Generator().manual_seed(3)), torch.eye(3, 6)
    target[1] = 0
    torch.testing.assert_close(soft_topk(logits, target, k=2), soft_topk(logits[[0, 2]], target[[0, 2]], k=2))


def test_there_have_to_be_more_than_k_labels() -> None:
    with pytest.raises(InvalidValueError, match="soft_topk: logits must have more than 5 labels in dimension 1, got 5"):
        soft_topk(torch.zeros(2, 5), torch.ones(2, 5))


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.float32])
def test_targets_are_relevances(dtype: torch.dtype) -> None:
    logits = torch.randn(3, 6, generator=torch.Generator().manual_seed(4))
    target = torch.tensor([[1, 0, 1, 0, 0, 0], [0, 1, 0, 0, 0, 1], [0, 0, 0, 1, 0, 0]])
    graded = target * 0.3 if dtype == torch.float32 else target.to(dtype)
    assert soft_topk(logits, graded, k=2) == soft_topk(logits, target, k=2)
