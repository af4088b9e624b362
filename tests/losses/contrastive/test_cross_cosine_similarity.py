"""What is true of CCSL alone; the conformance suite does the rest."""

import math

import pytest
import torch
from torch import Tensor

import lossary
from lossary import LossaryError
from lossary.losses import CrossCosineSimilarityLoss
from lossary.losses.contrastive.byol import byol
from lossary.losses.contrastive.cross_cosine_similarity import cross_cosine_similarity

GENERATOR = torch.Generator().manual_seed(0)
P = torch.randn(40, 3, generator=GENERATOR, dtype=torch.float64)
Z = torch.randn(40, 3, generator=GENERATOR, dtype=torch.float64)


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))


def by_hand(p: Tensor, z: Tensor, high: float, low: float, weight: float) -> float:
    positive, negative = [], []
    for i, a in enumerate(p.tolist()):
        for j, b in enumerate(z.tolist()):
            c = cosine(a, b)
            if i == j or c >= high:
                positive.append(2 - 2 * c)
            elif c <= low:
                negative.append(2 * max(c, 0.0))
    assert len(positive) > len(p)
    return sum(positive) / len(positive) + weight * sum(negative) / len(negative)


@pytest.mark.parametrize(("high", "low", "weight"), [(0.8, 0.2, 0.0), (0.6, 0.3, 0.7)])
def test_matches_a_loop_over_pairs(high: float, low: float, weight: float) -> None:
    loss = CrossCosineSimilarityLoss(positive_threshold=high, negative_threshold=low, negative_weight=weight)
    assert loss(P, Z).item() == pytest.approx(by_hand(P, Z, high, low, weight))
    loss.reduction = "sum"
    assert loss(P, Z).item() == pytest.approx(40 * by_hand(P, Z, high, low, weight))


def test_out_of_reach_of_the_threshold_it_is_byol() -> None:
    p, q = P.clone().requires_grad_(), P.clone().requires_grad_()
    loss, base = cross_cosine_similarity(p, Z, positive_threshold=1.5), byol(q, Z)
    torch.testing.assert_close(loss, base)
    torch.testing.assert_close(torch.autograd.grad(loss, p), torch.autograd.grad(base, q))


def test_the_order_of_the_batch_does_not_matter_and_the_target_has_no_gradient() -> None:
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    z = Z.clone().requires_grad_()
    torch.testing.assert_close(cross_cosine_similarity(P[order], Z[order]), cross_cosine_similarity(P, Z))
    assert not cross_cosine_similarity(P, z, negative_weight=1.0).requires_grad


def test_the_sets_are_constants_in_the_gradient() -> None:
    p = P.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(cross_cosine_similarity(p, Z), p)
    q = P.clone().requires_grad_()
    c = torch.nn.functional.normalize(q) @ torch.nn.functional.normalize(Z).T
    chosen = (c.detach() >= 0.8) | torch.eye(40, dtype=torch.bool)
    (expected,) = torch.autograd.grad((2 - 2 * c)[chosen].mean(), q)
    torch.testing.assert_close(gradient, expected)


def test_many_samples_match_the_matrix() -> None:
    generator = torch.Generator().manual_seed(2)
    p, z = (torch.randn(700, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    leaf, other = p.clone().requires_grad_(), p.clone().requires_grad_()
    loss = cross_cosine_similarity(leaf, z, negative_weight=0.5)
    c = torch.nn.functional.normalize(other) @ torch.nn.functional.normalize(z).T
    own = torch.eye(700, dtype=torch.bool)
    expected = (2 - 2 * c)[(c >= 0.8) | own].mean() + 0.5 * (2 * c.relu())[(c <= 0.2) & ~own].mean()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, leaf), torch.autograd.grad(expected, other))


def test_a_collapsed_start_is_byol_until_the_warmup_ends() -> None:
    collapsed = torch.ones(40, 3, dtype=torch.float64) + 0.01 * P  # every cosine passes the threshold
    loss = CrossCosineSimilarityLoss(warmup=0.2, negative_weight=1.0)
    assert loss.requires == ("progress",)
    torch.testing.assert_close(loss(collapsed, collapsed.roll(1, 0), 0.19), byol(collapsed, collapsed.roll(1, 0)))
    after = loss(collapsed, collapsed.roll(1, 0), progress=0.2)
    assert after.item() == pytest.approx(by_hand_mean(collapsed))
    with pytest.raises(LossaryError, match=r"^cross_cosine_similarity: progress must be a number from 0 to 1 .* got None"):
        loss(collapsed, collapsed)
    assert CrossCosineSimilarityLoss().requires == ()


def by_hand_mean(x: Tensor) -> float:
    rows = x.tolist()
    return sum(2 - 2 * cosine(a, b) for a in rows for b in rows) / len(rows) ** 2


def test_nothing_is_zero_with_a_gradient() -> None:
    p = torch.zeros(0, 3, requires_grad=True)
    loss = cross_cosine_similarity(p, torch.zeros(0, 3), negative_weight=1.0)
    assert loss.item() == 0
    assert torch.autograd.grad(loss, p)[0].shape == (0, 3)
    one = torch.ones(1, 3, requires_grad=True)
    loss = cross_cosine_similarity(one, torch.tensor([[1.0, 0.0, 0.0]]), negative_weight=1.0)  # no pair can be negative
    assert loss.isfinite()
    assert torch.autograd.grad(loss, one)[0].isfinite().all()


def test_the_paper_s_short_name_is_an_alias() -> None:
    assert isinstance(lossary.create("ccsl", positive_threshold=0.9), CrossCosineSimilarityLoss)
    assert getattr(lossary.functional, "ccsl") is cross_cosine_similarity  # noqa: B009
    assert "ccsl" not in lossary.list_objectives()
    assert lossary.specs()["cross_cosine_similarity"].aliases == ("ccsl",)
