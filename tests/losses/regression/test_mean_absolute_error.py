"""What is true of the mean absolute error alone; the conformance suite does the rest."""

import pytest
import torch
from torch.nn.functional import l1_loss

from lossary.losses.regression.mean_absolute_error import mean_absolute_error


def test_matches_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    prediction = torch.randn(5, 3, dtype=torch.float64, generator=generator)
    target = torch.randn(5, 3, dtype=torch.float64, generator=generator)
    pairs = zip(prediction.flatten().tolist(), target.flatten().tolist(), strict=True)
    expected = prediction.new_tensor([abs(f - y) for f, y in pairs])
    torch.testing.assert_close(mean_absolute_error(prediction, target, reduction="none").flatten(), expected)
    assert mean_absolute_error(prediction, target).item() == pytest.approx(expected.mean().item())


def test_has_the_values_of_torch() -> None:
    prediction, target = torch.tensor([0.5, -2.0, 3.0]), torch.tensor([0.0, 1.0, 3.5])
    for reduction in ("mean", "sum", "none"):
        ours = mean_absolute_error(prediction, target, reduction=reduction)
        torch.testing.assert_close(ours, l1_loss(prediction, target, reduction=reduction))


def test_a_weighted_mean_divides_by_the_weights() -> None:
    prediction, target, weight = torch.tensor([1.0, 5.0]), torch.zeros(2), torch.tensor([3.0, 1.0])
    per_item = mean_absolute_error(prediction, target, reduction="none")
    expected = (3 * per_item[0] + per_item[1]) / 4
    torch.testing.assert_close(mean_absolute_error(prediction, target, weight=weight), expected)
