"""What is true of the interpolated bag loss alone; the conformance suite does the rest."""

import pytest
import torch

from lossary.losses.bags.bag_level import bag_level
from lossary.losses.bags.instance_level import instance_level
from lossary.losses.bags.interpolated_bag import interpolated_bag

BAG = torch.tensor([1, 0, 1, 0, 2, 1, 0])
TARGET = torch.tensor([0.3, 0.5, 0.8], dtype=torch.float64)
Z = torch.randn(7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_squared_is_the_bag_level_and_a_share_of_the_variance_within_bags() -> None:
    expected = 0.0
    for bag in range(3):
        own = Z[bag == BAG].tolist()
        mean = sum(own) / len(own)
        expected += (mean - TARGET[bag].item()) ** 2 + 0.2 * sum((z - mean) ** 2 for z in own) / len(own)
    assert interpolated_bag(Z, TARGET, BAG, rho=0.2).item() == pytest.approx(expected / 3)


@pytest.mark.parametrize("rho", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_bce_lies_on_the_line_between_its_ends(rho: float, reduction: str) -> None:
    ends = [loss(Z, TARGET, BAG, base="bce", reduction=reduction) for loss in (bag_level, instance_level)]  # type: ignore[arg-type]
    value = interpolated_bag(Z, TARGET, BAG, rho=rho, base="bce", reduction=reduction)  # type: ignore[arg-type]
    torch.testing.assert_close(value, (1 - rho) * ends[0] + rho * ends[1])
    assert ends[0] < ends[1]  # Jensen: a mean of predictions costs less than the mean of their costs


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
@pytest.mark.parametrize("base", ["squared", "bce"])
def test_bags_may_be_numbered_by_small_integers(base: str, dtype: torch.dtype) -> None:
    value = interpolated_bag(Z, TARGET, BAG.to(dtype), base=base)  # type: ignore[arg-type]
    assert torch.equal(value, interpolated_bag(Z, TARGET, BAG, base=base))  # type: ignore[arg-type]
