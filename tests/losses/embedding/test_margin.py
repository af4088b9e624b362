"""What is true of the margin-based loss alone; the conformance suite does the rest."""

from typing import Literal

import pytest
import torch
from tests.losses.embedding.common import batch, distances_of, hold_against_loops, negatives, positives
from torch import Tensor

from lossary._fast.pairs import rule as pairs_rule
from lossary.losses.embedding.margin import MarginLoss, margin

BETA = torch.tensor(1.1, dtype=torch.float64)


def terms(d: list[list[Tensor]], labels: list[int], i: int) -> list[Tensor]:
    """Of an anchor's triplets the terms that cost something."""

    found = []
    for p in positives(labels, i):
        for n in negatives(labels, i):
            found += [d[i][p] - 1.1 + 0.3, 1.1 - d[i][n] + 0.3]
    return [each for each in found if each > 0]


def total(d: list[list[Tensor]], labels: list[int]) -> Tensor:
    found = [terms(d, labels, i) for i in range(len(labels))]
    return torch.stack([torch.stack(each).sum() if each else d[i][i] * 0 for i, each in enumerate(found)])


def mean(d: list[list[Tensor]], labels: list[int]) -> Tensor:
    return total(d, labels).sum() / sum(len(terms(d, labels, i)) for i in range(len(labels)))


def test_matches_loops_over_triplets(monkeypatch: pytest.MonkeyPatch) -> None:
    hold_against_loops(
        monkeypatch, lambda x, y: margin(x, y, BETA.to(x.dtype), margin=0.3, reduction="none"), total, of=distances_of
    )
    hold_against_loops(monkeypatch, lambda x, y: margin(x, y, BETA.to(x.dtype), margin=0.3), mean, of=distances_of)


@pytest.mark.parametrize("small", [pairs_rule.SMALL, 0])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_learned_boundary_has_its_slope(monkeypatch: pytest.MonkeyPatch, small: int, reduction: Literal["mean", "sum"]) -> None:
    monkeypatch.setattr(pairs_rule, "SMALL", small)
    x, labels = batch()
    loss = MarginLoss(init_beta=1.25, learn_beta=True, reduction=reduction).double()
    loss(x.double(), labels).backward()
    assert loss.beta.grad is not None
    high, low = (margin(x.double(), labels, BETA + 0.15 + step, reduction=reduction) for step in (1e-6, -1e-6))
    assert float(loss.beta.grad) == pytest.approx(float(high - low) / 2e-6, rel=1e-5)
    assert float(loss.beta.grad) != 0


def test_the_boundary_is_fixed_unless_it_is_learned() -> None:
    assert [p.requires_grad for p in MarginLoss().parameters()] == [False]
    assert [p.requires_grad for p in MarginLoss(learn_beta=True).parameters()] == [True]


def test_what_lies_on_its_side_of_the_boundary_costs_nothing() -> None:
    x = torch.tensor([[1.0, 0.0], [1.0, 0.9], [-1.0, 0.0], [-1.0, -0.9]], requires_grad=True)
    loss = MarginLoss()(x, torch.tensor([0, 0, 1, 1]))
    loss.backward()
    assert x.grad is not None
    assert float(loss.detach()) == 0
    assert x.grad.abs().sum() == 0
