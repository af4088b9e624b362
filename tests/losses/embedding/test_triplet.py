"""What is true of the triplet loss alone; the conformance suite does the rest."""

import pytest
import torch
from tests.losses.embedding.common import batch, distances_of, hold_against_loops, hold_loop_against_double, negatives, positives
from torch import Tensor

from lossary.losses.embedding.triplet import triplet


def triplets(d: list[list[Tensor]], labels: list[int], i: int) -> list[Tensor]:
    return [d[i][p] - d[i][n] + 0.3 for p in positives(labels, i) for n in negatives(labels, i) if d[i][p] - d[i][n] + 0.3 > 0]


def total(d: list[list[Tensor]], labels: list[int]) -> Tensor:
    found = [triplets(d, labels, i) for i in range(len(labels))]
    return torch.stack([torch.stack(each).sum() if each else d[i][i] * 0 for i, each in enumerate(found)])


def mean(d: list[list[Tensor]], labels: list[int]) -> Tensor:
    return total(d, labels).sum() / sum(len(triplets(d, labels, i)) for i in range(len(labels)))


def test_matches_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    hold_against_loops(monkeypatch, lambda x, y: triplet(x, y, margin=0.3, reduction="none"), total, of=distances_of)
    hold_against_loops(monkeypatch, lambda x, y: triplet(x, y, margin=0.3), mean, of=distances_of)


def test_many_positives_take_another_way_to_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    hold_loop_against_double(monkeypatch, lambda x, y: triplet(x, y, margin=0.3, reduction="none"), 150, 2, atol=1e-3)


def test_separated_classes_cost_nothing() -> None:
    x = torch.tensor([[1.0, 0.0], [1.0, 0.01], [-1.0, 0.0], [-1.0, 0.01]], requires_grad=True)
    loss = triplet(x, torch.tensor([0, 0, 1, 1]))
    loss.backward()
    assert x.grad is not None
    assert float(loss.detach()) == 0
    assert x.grad.abs().sum() == 0


def test_never_less_than_without_a_margin() -> None:
    x, labels = batch()
    values = [float(triplet(x, labels, margin=margin, reduction="sum")) for margin in (0.0, 0.1, 0.5, 2.0)]
    assert values == sorted(values)
