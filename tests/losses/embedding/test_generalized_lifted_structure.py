"""What is true of the generalized lifted structure loss alone; the conformance suite does the rest."""

import pytest
import torch
from tests.losses.embedding.common import batch, distances_of, hold_against_loops, negatives, positives
from torch import Tensor

from lossary.losses.embedding.generalized_lifted_structure import generalized_lifted_structure


def loop(d: list[list[Tensor]], labels: list[int]) -> Tensor:
    found = []
    for i in range(len(labels)):
        row = d[i]
        p, n = positives(labels, i), negatives(labels, i)
        product = sum(row[j].exp() for j in p) * sum((0.2 - row[j]).exp() for j in n)
        found.append(product.log().relu() if isinstance(product, Tensor) and p else row[i] * 0)
    return torch.stack(found)


def test_matches_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    def loss(x: Tensor, y: Tensor) -> Tensor:
        return generalized_lifted_structure(x, y, margin=0.2, reduction="none")

    hold_against_loops(monkeypatch, loss, loop, of=distances_of)
    hold_against_loops(
        monkeypatch,
        lambda x, y: generalized_lifted_structure(x, y, margin=0.2),
        lambda d, y: loop(d, y).sum() / 23,
        of=distances_of,
    )


def test_one_pair_of_each_kind_is_a_triplet() -> None:
    x = torch.tensor([[1.0, 0.0], [0.6, 0.8], [-0.8, 0.6]])
    found = generalized_lifted_structure(x, torch.tensor([0, 0, 1]), margin=1.2, reduction="none")
    d = torch.cdist(x, x)
    torch.testing.assert_close(found, torch.stack([d[0, 1] - d[0, 2] + 1.2, d[0, 1] - d[1, 2] + 1.2, torch.tensor(0.0)]).relu())
    assert (found[:2] > 0).all()


def test_an_anchor_without_a_positive_does_not_count() -> None:
    x, labels = batch()
    labels[labels == 1000] = int(labels[0])  # all have a positive now
    more = torch.cat([x, x.mean(0, keepdim=True)])
    found = generalized_lifted_structure(more, torch.cat([labels, torch.tensor([77])]), reduction="none")
    assert found[-1] == 0
    mean = generalized_lifted_structure(more, torch.cat([labels, torch.tensor([77])]))
    torch.testing.assert_close(mean, found[:-1].mean())


def test_one_label_alone_or_no_pair_at_all_costs_nothing() -> None:
    for labels in (torch.zeros(4, dtype=torch.int64), torch.arange(4)):
        x = torch.randn(4, 3, requires_grad=True)
        loss = generalized_lifted_structure(x, labels)
        loss.backward()
        assert x.grad is not None
        assert float(loss.detach()) == 0
        assert x.grad.abs().sum() == 0
