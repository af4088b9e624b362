"""What is true of the instance-level loss alone; the conformance suite does the rest."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.func import grad, jacrev

from lossary.losses.bags.bag_level import bag_level
from lossary.losses.bags.instance_level import instance_level

BAG = torch.tensor([2, 0, 2, 0, 3, 2, 0])
TARGET = torch.tensor([0.3, 0.9, 0.5, 0.8], dtype=torch.float64)  # bag 1 has no sample
Z = torch.randn(7, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 3


@pytest.mark.parametrize("base", ["squared", "bce"])
def test_matches_a_loop_over_samples(base: str) -> None:
    counts = [BAG.tolist().count(b) for b in range(4)]
    total = 0.0
    for z, b in zip(Z.tolist(), BAG.tolist(), strict=True):
        q, p = TARGET[b].item(), 1 / (1 + math.exp(-z))
        cost = (z - q) ** 2 if base == "squared" else -q * math.log(p) - (1 - q) * math.log(1 - p)
        total += cost / counts[b]
    value = instance_level(Z, TARGET, BAG, base=base)  # type: ignore[arg-type]
    assert value.item() == pytest.approx(total / 3)


def test_squared_exceeds_the_bag_level_by_the_variance_within_bags() -> None:
    variances = [Z[b == BAG].var(correction=0).item() for b in (0, 2, 3)]
    excess = instance_level(Z, TARGET, BAG) - bag_level(Z, TARGET, BAG)
    assert excess.item() == pytest.approx(sum(variances) / 3)


@pytest.mark.parametrize("base", ["squared", "bce"])
def test_equals_the_bag_level_for_bags_of_one_and_for_constant_predictions(base: str) -> None:
    alone = torch.arange(7)
    target = torch.rand(7, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    constant = torch.tensor([0.4, -1.0, 2.0, 0.1], dtype=torch.float64)[BAG]
    for prediction, means, bag in ((Z, target, alone), (constant, TARGET, BAG)):
        values = [loss(prediction, means, bag, base=base) for loss in (bag_level, instance_level)]  # type: ignore[arg-type]
        torch.testing.assert_close(values[0], values[1])


def minimiser(loss: Callable[..., Tensor], x: Tensor, means: Tensor, bag: Tensor) -> Tensor:
    """The weights of a linear model that minimise a quadratic loss: one step of Newton's from zero."""

    def value(w: Tensor) -> Tensor:
        return loss(x @ w, means, bag)

    zero = torch.zeros(x.shape[1], dtype=torch.float64)
    return torch.as_tensor(torch.linalg.solve(jacrev(grad(value))(zero), -grad(value)(zero)))


def errors(strength: float) -> tuple[float, float]:
    """Squared errors of the estimates by bag level and by instance level, over ten draws."""
    found = [0.0, 0.0]
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(400, 50, generator=generator, dtype=torch.float64)
        theta = torch.randn(50, generator=generator, dtype=torch.float64)
        theta *= strength / theta.norm()
        y = x @ theta + torch.randn(400, generator=generator, dtype=torch.float64)
        for i, loss in enumerate((bag_level, instance_level)):
            estimate = minimiser(loss, x, y.view(100, 4).mean(1), torch.arange(400) // 4)
            found[i] += (estimate - theta).square().sum().item() / 10
    return found[0], found[1]


def test_weak_signals_want_the_instance_level_and_strong_ones_the_bag_level() -> None:
    weak_bag, weak_instance = errors(0.3)
    strong_bag, strong_instance = errors(3.0)
    assert weak_instance < weak_bag / 3
    assert strong_bag < strong_instance / 3
