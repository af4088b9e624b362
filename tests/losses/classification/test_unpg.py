"""What is true of unified negative pairs alone; the conformance suite does the rest."""

import math
from typing import Literal

import pytest
import torch
from torch import Tensor

from lossary.losses.classification import unpg as module
from lossary.losses.classification.arcface import arcface
from lossary.losses.classification.cosface import cosface
from lossary.losses.classification.unpg import unpg, whiskers

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(12, 4, generator=GENERATOR, dtype=torch.float64)
W = torch.randn(5, 4, generator=GENERATOR, dtype=torch.float64)
TARGET = torch.randint(5, (12,), generator=GENERATOR)


def by_hand(x: Tensor, target: Tensor, w: Tensor, base: str, scale: float, margin: float, whisker: float | None) -> list[float]:
    """Pair by pair, with every kept pair as one more logit of every sample."""
    cosine = torch.nn.functional.normalize(x) @ torch.nn.functional.normalize(w).T
    between = torch.nn.functional.normalize(x) @ torch.nn.functional.normalize(x).T
    pairs = sorted(between[i, j].item() for i in range(len(x)) for j in range(i) if target[i] != target[j])
    if whisker is not None:
        first, third = pairs[int(0.25 * len(pairs))], pairs[int(0.75 * len(pairs))]
        reach = whisker * (third - first)
        pairs = [v for v in pairs if first - reach <= v <= third + reach]
    values = []
    for i, y in enumerate(target.tolist()):
        own = cosine[i, y].item()
        own = math.cos(math.acos(own) + margin) if base == "arcface" else own - margin
        negatives = [*(c for k, c in enumerate(cosine[i].tolist()) if k != y), *pairs]
        values.append(math.log1p(sum(math.exp(scale * (v - own)) for v in negatives)))
    return values


@pytest.mark.parametrize("whisker", [None, 1.5, 0.1])
@pytest.mark.parametrize("base", ["arcface", "cosface"])
def test_matches_a_loop_over_pairs(base: Literal["arcface", "cosface"], whisker: float | None) -> None:
    expected = by_hand(X, TARGET, W, base, 9.0, 0.3, whisker)
    value = unpg(X, TARGET, W, base=base, scale=9.0, margin=0.3, whisker=whisker)
    assert value.item() == pytest.approx(sum(expected) / 12, rel=1e-9)


def test_never_below_the_base_loss_and_equal_to_it_without_a_pair() -> None:
    for whisker in (None, 0.0, 1.5):
        assert unpg(X, TARGET, W, whisker=whisker) > arcface(X, TARGET, W)
        assert unpg(X, TARGET, W, base="cosface", whisker=whisker) > cosface(X, TARGET, W, margin=0.5)
    one = torch.full((12,), 2)
    x = X.clone().requires_grad_()
    value, base = unpg(x, one, W), arcface(x, one, W)
    torch.testing.assert_close(value, base)
    torch.testing.assert_close(torch.autograd.grad(value, x), torch.autograd.grad(base, x))


@pytest.mark.parametrize("blocks", [False, True])
def test_smoothing_is_a_mixture_of_the_losses_of_all_classes(blocks: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if blocks:
        monkeypatch.setattr("lossary._fast.dispatch.SMALL", 0)
    weight = torch.rand(5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = X.clone().requires_grad_()
    value = unpg(x, TARGET, W, scale=5.0, label_smoothing=0.2, class_weight=weight)
    # of each class: the plain loss of the class, with the batch's own pairs beside
    pairs = module.log_sum_of_cross_class_pairs(torch.nn.functional.normalize(x), TARGET, torch.ones(12).bool(), 5.0, 1.5)
    cosine = torch.nn.functional.normalize(x) @ torch.nn.functional.normalize(W).T
    own = 5.0 * torch.where(cosine > math.cos(math.pi - 0.5), (cosine.acos() + 0.5).cos(), cosine - 0.5 * math.sin(0.5))
    others = (5.0 * cosine).exp().sum(1, keepdim=True) - (5.0 * cosine).exp() + pairs.exp()
    each = torch.log1p(others / own.exp()) * weight
    smooth = 0.8 * each.gather(1, TARGET[:, None]).squeeze(1) + 0.2 * each.mean(1)
    expected = smooth.sum() / weight[TARGET].sum()
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(torch.autograd.grad(value, x), torch.autograd.grad(expected, x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("alike", [False, True])
def test_quartiles_of_a_large_batch_are_exact(dtype: torch.dtype, alike: bool) -> None:
    """Found by counting bits, and held against a sort of everything; also where most pairs are one number."""
    x = torch.nn.functional.normalize(torch.randn(400, 6, generator=GENERATOR, dtype=dtype))
    if alike:
        x[50:] = torch.eye(6, dtype=dtype)[torch.randint(6, (350,), generator=GENERATOR)]
    index = torch.randint(7, (400,), generator=GENERATOR)
    kept = torch.rand(400, generator=GENERATOR) > 0.1
    later = torch.ones(400, 400, dtype=torch.bool).triu(1) & (index[:, None] != index) & kept[:, None] & kept
    ascending = torch.cat([x[rows] @ x.T for rows in torch.arange(400).split(32)])[later].sort().values
    first, third = ascending[int(0.25 * len(ascending))], ascending[int(0.75 * len(ascending))]
    low, high = whiskers(x, index, kept, 0.0)
    torch.testing.assert_close(low, first, rtol=0, atol=2 * torch.finfo(dtype).eps)
    torch.testing.assert_close(high, third, rtol=0, atol=2 * torch.finfo(dtype).eps)
    low, high = whiskers(x, index, kept, 1.5)
    torch.testing.assert_close(high - low, 4 * (third - first), rtol=0, atol=2e-6)


def test_a_large_batch_gives_what_the_loop_over_pairs_gives() -> None:
    x, w = torch.randn(280, 6, generator=GENERATOR).requires_grad_(), torch.randn(300, 6, generator=GENERATOR).requires_grad_()
    target = torch.randint(300, (280,), generator=GENERATOR)
    value = unpg(x, target, w, scale=16.0, margin=0.2)
    with torch.no_grad():
        low, high = whiskers(torch.nn.functional.normalize(x.double()), target, torch.ones(280).bool(), 1.5)
    between = torch.nn.functional.normalize(x.double()) @ torch.nn.functional.normalize(x.double()).T
    chosen = (target[:, None] != target) & (between >= low) & (between <= high)
    pairs = (16 * between).exp().masked_fill(~chosen, 0.0).sum() / 2
    cosine = torch.nn.functional.normalize(x.double()) @ torch.nn.functional.normalize(w.double()).T
    own = cosine.gather(1, target[:, None]).squeeze(1)
    turned = torch.where(own > math.cos(math.pi - 0.2), (own.acos() + 0.2).cos(), own - 0.2 * math.sin(0.2))
    others = (16 * cosine).exp().sum(1) - (16 * own).exp()
    expected = torch.log1p((others + pairs) / (16 * turned).exp()).mean()
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=0)
    for got, wanted in zip(torch.autograd.grad(value, (x, w)), torch.autograd.grad(expected, (x, w)), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-6)
