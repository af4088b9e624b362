"""What is true of the contrastive loss alone; the conformance suite does the rest."""

import pytest
import torch
from tests.losses.embedding.common import distances_of, hold_against_loops, negatives, positives
from torch import Tensor

from lossary.losses.embedding.contrastive_pairs import contrastive


def terms(d: list[list[Tensor]], labels: list[int]) -> tuple[list[Tensor], list[Tensor]]:
    """Of positive and of negative pairs those that cost something."""
    near, far = [], []
    for i in range(len(labels)):
        near += [d[i][p] - 0.3 for p in positives(labels, i)]
        far += [0.9 - d[i][n] for n in negatives(labels, i)]
    return [each for each in near if each > 0], [each for each in far if each > 0]


def mean(d: list[list[Tensor]], labels: list[int]) -> Tensor:
    near, far = terms(d, labels)
    return torch.stack(near).mean() + torch.stack(far).mean()


def total(d: list[list[Tensor]], labels: list[int]) -> Tensor:
    near, far = terms(d, labels)
    return torch.stack(near).sum() + torch.stack(far).sum()


def test_matches_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    hold_against_loops(monkeypatch, lambda x, y: contrastive(x, y, positive_margin=0.3, negative_margin=0.9), mean, of=distances_of)
    hold_against_loops(
        monkeypatch,
        lambda x, y: contrastive(x, y, positive_margin=0.3, negative_margin=0.9, reduction="sum"),
        total,
        of=distances_of,
    )


def test_equal_positives_and_distant_negatives_cost_nothing() -> None:
    x = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 3.0]], requires_grad=True)
    loss = contrastive(x, torch.tensor([0, 0, 1, 1]))
    loss.backward()
    assert float(loss.detach()) == 0
    assert x.grad is not None
    assert x.grad.isfinite().all()
