"""What is true of Proxy-Anchor alone; the conformance suite does the rest."""

import math
from operator import mul

import pytest
import torch

from lossary.losses.classification.proxy_anchor import proxy_anchor

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(9, 4, generator=GENERATOR, dtype=torch.float64)
W = torch.randn(5, 4, generator=GENERATOR, dtype=torch.float64)
TARGET = torch.tensor([0, 0, 1, 3, 3, 3, 1, 0, 0])


def by_hand(x: list[list[float]], w: list[list[float]], labels: list[int], alpha: float, margin: float) -> float:
    def cosine(a: list[float], b: list[float]) -> float:
        return float(sum(map(mul, a, b))) / (math.hypot(*a) * math.hypot(*b))

    pull, push = [], []
    for p, proxy in enumerate(w):
        own = [math.exp(-alpha * (cosine(a, proxy) - margin)) for a, y in zip(x, labels, strict=True) if y == p]
        other = [math.exp(alpha * (cosine(a, proxy) + margin)) for a, y in zip(x, labels, strict=True) if y != p]
        if own:
            pull.append(math.log1p(sum(own)))
        push.append(math.log1p(sum(other)))
    return sum(pull) / len(pull) + sum(push) / len(w)


@pytest.mark.parametrize(("alpha", "margin"), [(32.0, 0.1), (2.0, 0.3)])
def test_matches_a_loop_over_proxies(alpha: float, margin: float) -> None:
    expected = by_hand(X.tolist(), W.tolist(), TARGET.tolist(), alpha, margin)
    assert proxy_anchor(X, TARGET, W, alpha=alpha, margin=margin).item() == pytest.approx(expected, rel=1e-12)


def test_ignored_samples_are_not_there_even_if_theirs_is_the_only_one_of_a_class() -> None:
    target = TARGET.clone()
    target[[2, 6]] = -100
    kept = target != -100
    expected = by_hand(X[kept].tolist(), W.tolist(), target[kept].tolist(), 32.0, 0.1)
    assert proxy_anchor(X, target, W).item() == pytest.approx(expected, rel=1e-12)


def test_harder_samples_get_more_of_the_force() -> None:
    w = torch.eye(2, dtype=torch.float64)
    angles = torch.tensor([0.3, 0.9], dtype=torch.float64)
    x = torch.stack([angles.cos(), angles.sin()], 1).requires_grad_()
    (gradient,) = torch.autograd.grad(proxy_anchor(x, torch.tensor([0, 0]), w[:1], alpha=8.0), x)
    assert gradient[1].norm() > 10 * gradient[0].norm()


def test_many_classes_give_what_few_operations_give() -> None:
    x, w = torch.randn(200, 8, generator=GENERATOR).requires_grad_(), torch.randn(700, 8, generator=GENERATOR).requires_grad_()
    target = torch.randint(700, (200,), generator=GENERATOR)
    cosine = torch.nn.functional.normalize(x.double()) @ torch.nn.functional.normalize(w.double()).T
    own = torch.nn.functional.one_hot(target, 700).bool()
    pull = torch.log1p((-32 * (cosine - 0.1)).exp().masked_fill(~own, 0).sum(0)).sum() / own.any(0).sum()
    expected = pull + torch.log1p((32 * (cosine + 0.1)).exp().masked_fill(own, 0).sum(0)).mean()
    value = proxy_anchor(x, target, w)
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=0)
    for got, wanted in zip(torch.autograd.grad(value, (x, w)), torch.autograd.grad(expected, (x, w)), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-6)


def test_pulls_that_are_far_from_zero_stay_exact() -> None:
    w = torch.eye(2, dtype=torch.float64)
    x = torch.tensor([[-1.0, 0.0], [-1.0, 0.1], [0.0, 1.0]], dtype=torch.float64).requires_grad_()
    value = proxy_anchor(x, torch.tensor([0, 0, 1]), w, alpha=2000.0)  # exp(2200) is no number
    cosines = [-1.0, -1 / math.hypot(1, 0.1)]
    first = 2000 * (0.1 - cosines[0]) + math.log1p(math.exp(-2000 * (cosines[1] - cosines[0])))
    pushes = 2000 * (0.1 + 0.0) + 2000 * (0.1 + 0.1 / math.hypot(1, 0.1))
    assert value.item() == pytest.approx(first / 2 + pushes / 2, rel=1e-6)
    (gradient,) = torch.autograd.grad(value, x)
    assert gradient.isfinite().all()
    assert gradient[1].norm() > 0
