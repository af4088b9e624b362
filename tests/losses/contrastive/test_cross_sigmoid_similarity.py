"""What is true of CSSL alone; the conformance suite does the rest."""

import math

import pytest
import torch

import lossary
from lossary.losses import CrossSigmoidSimilarityLoss
from lossary.losses.contrastive.cross_sigmoid_similarity import cross_sigmoid_similarity

GENERATOR = torch.Generator().manual_seed(0)
P = torch.randn(30, 3, generator=GENERATOR, dtype=torch.float64)
Z = torch.randn(30, 3, generator=GENERATOR, dtype=torch.float64)


def by_hand(high: float, low: float, weight: float, scale: float, only_own: bool = False) -> float:
    positive, negative = [], []
    for i, a in enumerate(P.tolist()):
        for j, b in enumerate(Z.tolist()):
            cosine = sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))
            level = 1 / (1 + math.exp(-scale * cosine))
            if i == j or (level >= high and not only_own):
                positive.append(-math.log(level))
            elif level <= low:
                negative.append(-math.log(1 - level))
    return sum(positive) / len(positive) + (weight * sum(negative) / len(negative) if weight else 0.0)


@pytest.mark.parametrize(("high", "low", "weight", "scale"), [(0.8, 0.2, 0.0, 5.0), (0.9, 0.3, 0.7, 4.0)])
def test_matches_a_loop_over_pairs(high: float, low: float, weight: float, scale: float) -> None:
    loss = cross_sigmoid_similarity(P, Z, positive_threshold=high, negative_threshold=low, negative_weight=weight, scale=scale)
    assert loss.item() == pytest.approx(by_hand(high, low, weight, scale))


def test_its_own_target_is_the_only_positive_before_the_warmup_ends() -> None:
    loss = CrossSigmoidSimilarityLoss(warmup=0.5)
    assert loss(P, Z, progress=0.4).item() == pytest.approx(by_hand(0.8, 0.2, 0.0, 5.0, only_own=True))
    assert loss(P, Z, progress=0.5).item() == pytest.approx(by_hand(0.8, 0.2, 0.0, 5.0))


def test_a_large_scale_has_a_finite_gradient() -> None:
    p = P.float().requires_grad_()
    loss = cross_sigmoid_similarity(p, Z.float(), scale=1e4, negative_weight=1.0)
    assert loss.isfinite()
    (gradient,) = torch.autograd.grad(loss, p)
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0


def test_the_paper_s_short_name_is_an_alias() -> None:
    assert isinstance(lossary.create("cssl", scale=2.0), CrossSigmoidSimilarityLoss)
