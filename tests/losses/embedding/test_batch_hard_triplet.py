"""What is true of the batch-hard triplet loss alone; the conformance suite does the rest."""

import pytest
import torch
from tests.losses.embedding.common import distances_of, hold_against_loops, negatives, positives
from torch import Tensor

from lossary.losses.embedding.batch_hard_triplet import batch_hard_triplet


def loop(d: list[list[Tensor]], labels: list[int]) -> Tensor:
    found = []
    for i in range(len(labels)):
        row = d[i]
        p, n = positives(labels, i), negatives(labels, i)
        hardest = max(row[j] for j in p) - min(row[j] for j in n) + 0.3 if p and n else row[i] * 0
        found.append(hardest.relu())
    return torch.stack(found)


def test_matches_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    hold_against_loops(monkeypatch, lambda x, y: batch_hard_triplet(x, y, margin=0.3, reduction="none"), loop, of=distances_of)
    hold_against_loops(
        monkeypatch, lambda x, y: batch_hard_triplet(x, y, margin=0.3), lambda d, y: loop(d, y).sum() / 23, of=distances_of
    )


def test_one_label_alone_or_no_pair_at_all_costs_nothing() -> None:
    for labels in (torch.zeros(4, dtype=torch.int64), torch.arange(4)):
        x = torch.randn(4, 3, requires_grad=True)
        loss = batch_hard_triplet(x, labels)
        loss.backward()
        assert x.grad is not None
        assert float(loss.detach()) == 0
        assert x.grad.abs().sum() == 0
