"""What is true of the lifted structure loss alone; the conformance suite does the rest."""

import pytest
import torch
from tests.losses.embedding.common import distances_of, hold_against_loops, negatives, positives
from torch import Tensor

from lossary.losses.embedding.lifted_structure import lifted_structure


def total(d: list[list[Tensor]], labels: list[int]) -> Tensor:
    found = []
    for i in range(len(labels)):
        cost = d[i][i] * 0
        for p in positives(labels, i):
            pushed = [(0.2 - d[k][n]).exp() for k in (i, p) for n in negatives(labels, k)]
            cost = cost + (d[i][p] + torch.stack(pushed).sum().log()).relu() ** 2 / 2
        found.append(cost)
    return torch.stack(found)


def mean(d: list[list[Tensor]], labels: list[int]) -> Tensor:
    return total(d, labels).sum() / sum(len(positives(labels, i)) for i in range(len(labels)))


def test_matches_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    hold_against_loops(monkeypatch, lambda x, y: lifted_structure(x, y, margin=0.2, reduction="none"), total, of=distances_of)
    hold_against_loops(monkeypatch, lambda x, y: lifted_structure(x, y, margin=0.2), mean, of=distances_of)


def test_a_pair_is_held_against_the_negatives_of_both_samples() -> None:
    """The first sample is far from the negative, the second is next to it, and both have the second's cost."""
    x = torch.tensor([[1.0, 0.0], [-0.6, 0.8], [-0.8, 0.6]], dtype=torch.float64)
    found = lifted_structure(x, torch.tensor([4, 4, 2]), reduction="none")
    d = torch.cdist(x, x)
    expected = (d[0, 1] + torch.log((1 - d[0, 2]).exp() + (1 - d[1, 2]).exp())) ** 2 / 2
    torch.testing.assert_close(found, torch.stack([expected, expected, torch.zeros_like(expected)]))


def test_one_label_alone_or_no_pair_at_all_costs_nothing() -> None:
    for labels in (torch.zeros(4, dtype=torch.int64), torch.arange(4)):
        x = torch.randn(4, 3, requires_grad=True)
        loss = lifted_structure(x, labels)
        loss.backward()
        assert x.grad is not None
        assert float(loss.detach()) == 0
        assert x.grad.abs().sum() == 0
