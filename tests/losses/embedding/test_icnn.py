"""What is true of the ICNN loss alone; the score itself is tested beside the metrics."""

import math

import pytest
import torch
from tests.losses.embedding.common import batch

from lossary.losses.embedding.icnn import icnn
from lossary.metrics import icnn_score


def test_is_the_negative_logarithm_of_the_score() -> None:
    x, labels = batch()
    assert float(icnn(x, labels, neighbors=3)) == pytest.approx(-math.log(float(icnn_score(x, labels, neighbors=3))))


def test_descending_it_gathers_the_classes() -> None:
    x, labels = batch()
    labels[3] = 0
    leaf = x.clone().requires_grad_()
    before = float(icnn(x, labels, neighbors=3, retrieved=10))
    optimizer = torch.optim.Adam([leaf], lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        icnn(leaf, labels, neighbors=3, retrieved=10).backward()
        optimizer.step()
    assert float(icnn(leaf.detach(), labels, neighbors=3, retrieved=10)) < 0.8 * before


def test_duplicates_and_more_neighbours_than_samples_are_finite() -> None:
    x = torch.zeros(6, 3, requires_grad=True)
    loss = icnn(x, torch.tensor([0, 0, 0, 1, 1, 1]), neighbors=50, retrieved=100)
    loss.backward()
    assert x.grad is not None
    assert loss.isfinite()
    assert x.grad.isfinite().all()
