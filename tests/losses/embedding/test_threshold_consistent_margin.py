"""What is true of the threshold-consistent margin alone; the conformance suite does the rest."""

import pytest
import torch
from tests.losses.embedding.common import batch, hold_against_loops, negatives, positives
from torch import Tensor, nn

import lossary
from lossary.losses.embedding.threshold_consistent_margin import ThresholdConsistentMarginLoss, threshold_consistent_margin


def loop(s: list[list[Tensor]], labels: list[int]) -> Tensor:
    low = [0.8 - s[i][j] for i in range(len(labels)) for j in positives(labels, i) if s[i][j] <= 0.8]
    high = [s[i][j] - 0.2 for i in range(len(labels)) for j in negatives(labels, i) if s[i][j] >= 0.2]
    return 2 * torch.stack(low).mean() + 3 * torch.stack(high).mean()


def tcm(x: Tensor, labels: Tensor) -> Tensor:
    return threshold_consistent_margin(
        x, labels, positive_margin=0.8, negative_margin=0.2, positive_weight=2.0, negative_weight=3.0
    )


def test_matches_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    hold_against_loops(monkeypatch, tcm, loop)


def test_pairs_on_the_right_side_of_both_margins_have_no_gradient() -> None:
    x = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]], requires_grad=True)
    loss = ThresholdConsistentMarginLoss()(x, torch.tensor([0, 0, 1, 1]))
    loss.backward()
    assert x.grad is not None
    assert float(loss.detach()) == 0
    assert x.grad.abs().sum() == 0


def test_one_side_alone_is_finite() -> None:
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    for labels, value in ((torch.tensor([0, 0]), 0.9), (torch.tensor([0, 1]), 0.0)):
        assert float(ThresholdConsistentMarginLoss()(x.detach(), labels)) == pytest.approx(value)


def test_a_base_is_added_by_name_or_as_a_module() -> None:
    x, labels = batch()
    alone, base = ThresholdConsistentMarginLoss()(x, labels), lossary.create("multi_similarity")(x, labels)
    for given in ("multi_similarity", lossary.create("multi_similarity")):
        torch.testing.assert_close(ThresholdConsistentMarginLoss(base=given)(x, labels), alone + base)
    own = nn.Module()
    own.forward = lambda x, y: x.sum()
    torch.testing.assert_close(ThresholdConsistentMarginLoss(base=own)(x, labels), alone + x.sum())
    with pytest.raises(lossary.LossaryError, match="base must be the name of an objective, a module or None, got int"):
        ThresholdConsistentMarginLoss(base=3)  # type: ignore[arg-type]


def test_margins_are_of_the_similarity_whatever_the_length() -> None:
    x, labels = batch()
    torch.testing.assert_close(tcm(x, labels), tcm(100 * x, labels))


def test_no_value_for_each_sample() -> None:
    with pytest.raises(lossary.LossaryError, match="reduction must be 'mean' or 'sum', got 'none'"):
        ThresholdConsistentMarginLoss(reduction="none")  # type: ignore[arg-type]
