"""What is true of the bag-level loss alone; the conformance suite does the rest."""

import math

import pytest
import torch
from torch import Tensor

from lossary import LossaryError
from lossary.losses.bags.bag_level import BagLevelLoss, bag_level

BAG = torch.tensor([2, 0, 2, 0, 3, 2, 0])
TARGET = torch.tensor([0.3, 0.9, 0.5, 0.8], dtype=torch.float64)  # bag 1 has no sample


def predictions(seed: int = 0) -> Tensor:
    return torch.randn(7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 3


def members(values: Tensor) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    for value, bag in zip(values.tolist(), BAG.tolist(), strict=True):
        found.setdefault(bag, []).append(value)
    return found


def test_squared_matches_a_loop_over_bags() -> None:
    z = predictions()
    costs = [(sum(v) / len(v) - TARGET[b].item()) ** 2 for b, v in members(z).items()]
    assert bag_level(z, TARGET, BAG).item() == pytest.approx(sum(costs) / 3)
    assert bag_level(z, TARGET, BAG, reduction="sum").item() == pytest.approx(sum(costs))


def test_bce_is_the_cross_entropy_of_the_mean_probability() -> None:
    z = predictions()
    costs = []
    for b, values in members(z).items():
        p, q = sum(1 / (1 + math.exp(-v)) for v in values) / len(values), TARGET[b].item()
        costs.append(-q * math.log(p) - (1 - q) * math.log(1 - p))
    assert bag_level(z, TARGET, BAG, base="bce").item() == pytest.approx(sum(costs) / 3)


def test_bce_of_a_mean_of_tiny_probabilities() -> None:
    z = torch.tensor([-200.0, -210.0], requires_grad=True)  # both probabilities are 0 in float32, and their mean is not lost
    value = bag_level(z, torch.ones(1), torch.zeros(2, dtype=torch.long), base="bce")
    assert value.item() == pytest.approx(200 + math.log(2) - math.log1p(math.exp(-10)), rel=1e-6)
    value.backward()
    assert z.grad is not None
    torch.testing.assert_close(z.grad, -torch.tensor([0.0, -10.0]).softmax(0))


def test_the_link_follows_the_base() -> None:
    z = predictions()
    assert torch.equal(BagLevelLoss().link(z), z)
    assert torch.equal(BagLevelLoss(base="bce").link(z), z.sigmoid())


@pytest.mark.parametrize(
    ("prediction", "target", "bag", "message"),
    [
        (torch.zeros(2, 1), torch.zeros(1), torch.zeros(2).long(), r"prediction must have shape \(N,\), got \(2, 1\)"),
        (torch.zeros(2), torch.zeros(1, 1), torch.zeros(2).long(), r"target must have shape \(num_bags,\), got \(1, 1\)"),
        (torch.zeros(2), torch.zeros(1), torch.zeros(3).long(), r"bag must have shape \(2,\), got \(3,\)"),
        (torch.zeros(2), torch.zeros(1), torch.zeros(2), "bag must be integers"),
    ],
)
def test_bad_input_is_one_sentence(prediction: Tensor, target: Tensor, bag: Tensor, message: str) -> None:
    with pytest.raises(LossaryError, match=f"^bag_level: {message}"):
        bag_level(prediction, target, bag)
