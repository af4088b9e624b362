"""What is true of the angular loss alone; the conformance suite does the rest."""

import math

import pytest
import torch
from tests.losses.embedding.common import batch, hold_against_loops, negatives, positives
from torch import Tensor

from lossary._fast.pairs import rule as pairs_rule
from lossary.losses.embedding import angular as module
from lossary.losses.embedding.angular import angular


def loop(s: list[list[Tensor]], labels: list[int], degrees: float) -> Tensor:
    square = math.tan(math.radians(degrees)) ** 2
    found = []
    for i in range(len(labels)):
        cost = s[i][i] * 0
        for p in positives(labels, i):
            pushed = [4 * square * (s[i][n] + s[p][n]) - 2 * (1 + square) * s[i][p] for n in negatives(labels, i)]
            cost = cost + (1 + torch.stack(pushed).exp().sum()).log()
        found.append(cost)
    return torch.stack(found)


def mean(s: list[list[Tensor]], labels: list[int], degrees: float) -> Tensor:
    return loop(s, labels, degrees).sum() / sum(len(positives(labels, i)) for i in range(len(labels)))


@pytest.mark.parametrize("degrees", [30.0, 45.0, 60.0])
def test_matches_loops(monkeypatch: pytest.MonkeyPatch, degrees: float) -> None:
    hold_against_loops(monkeypatch, lambda x, y: angular(x, y, alpha=degrees, reduction="none"), lambda s, y: loop(s, y, degrees))
    hold_against_loops(monkeypatch, lambda x, y: angular(x, y, alpha=degrees), lambda s, y: mean(s, y, degrees))


@pytest.mark.parametrize("classes", [2, 5, 150])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_tiles_of_small_and_of_cut_classes_find_what_the_whole_matrix_gives(
    monkeypatch: pytest.MonkeyPatch, classes: int, reduction: str
) -> None:
    generator = torch.Generator().manual_seed(classes)
    x = torch.randn(300, 4, generator=generator, dtype=torch.float64)
    labels = torch.randint(classes, (300,), generator=generator) * 7 - 3
    found = []
    monkeypatch.setattr(module, "MOST", 40)
    for small in (300**2, 0):
        monkeypatch.setattr(pairs_rule, "SMALL", small)
        leaf = x.clone().requires_grad_()
        value = angular(leaf, labels, reduction=reduction)  # type: ignore[arg-type]
        weight = torch.linspace(0.5, 1.5, value.numel(), dtype=torch.float64).view(value.shape)
        found.append((value.detach(), torch.autograd.grad((weight * value).sum(), leaf)[0]))
    torch.testing.assert_close(found[1], found[0], rtol=1e-10, atol=1e-12)


def test_second_derivatives_are_those_of_the_whole_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = batch()
    found = []
    for small in (pairs_rule.SMALL, 0):
        monkeypatch.setattr(pairs_rule, "SMALL", small)
        leaf = x.double().requires_grad_()
        (slope,) = torch.autograd.grad(angular(leaf, labels), leaf, create_graph=True)
        found.append(torch.autograd.grad(slope.square().sum(), leaf)[0])
    torch.testing.assert_close(found[0], found[1])
    assert found[0].abs().max() > 1e-6


def test_every_positive_pair_is_in_one_tile() -> None:
    sizes = [3, 1, 2, 9, 1, 4, 4]
    labels = [label for label, size in enumerate(sizes) for _ in range(size)]
    met = [
        (i, j)
        for tile in module._tiles(sizes, 4)
        for i in range(len(labels))[tile.anchors]
        for j in range(len(labels))[tile.positives]
        if labels[i] == labels[j]
    ]
    assert sorted(met) == [(i, j) for i in range(len(labels)) for j in range(len(labels)) if labels[i] == labels[j]]
    assert all(len(range(len(labels))[tile.anchors]) <= 4 for tile in module._tiles(sizes, 4))


def test_the_exponent_tells_whether_the_angle_at_the_negative_is_above_alpha() -> None:
    """What is said about the triangle: with x_c the pair's middle, |x_i - x_p|^2 - 4 tan^2 |x_n - x_c|^2, but for a constant."""
    x = torch.nn.functional.normalize(torch.randn(3, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    square = math.tan(math.radians(40)) ** 2
    triangle = (x[0] - x[1]).square().sum() - 4 * square * (x[2] - (x[0] + x[1]) / 2).square().sum()
    expected = torch.log1p((triangle - 2 + 6 * square).exp())
    found = angular(x, torch.tensor([0, 0, 1]), alpha=40.0, reduction="none")
    torch.testing.assert_close(found, torch.stack([expected, expected, torch.zeros_like(expected)]))


def test_one_label_alone_or_no_pair_at_all_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for small in (pairs_rule.SMALL, 0):
        monkeypatch.setattr(pairs_rule, "SMALL", small)
        for labels in (torch.zeros(4, dtype=torch.int64), torch.arange(4)):
            x = torch.randn(4, 3, requires_grad=True)
            loss = angular(x, labels)
            loss.backward()
            assert x.grad is not None
            assert float(loss.detach()) == 0
            assert x.grad.abs().sum() == 0
