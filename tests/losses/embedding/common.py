"""A batch in which everything happens, and every way in which a loss of pairs is computed, held against loops."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lossary._fast.pairs import once
from lossary._fast.pairs import rule as pairs_rule

# Of the cosines or distances of a batch, as nested lists, and its labels.
Loop = Callable[[list[list[Tensor]], list[int]], Tensor]


def batch(n: int = 24) -> tuple[Tensor, Tensor]:
    """Classes of several sizes that overlap, an anchor without a positive, and a duplicate."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (n,), generator=generator)
    x = torch.randn(n, 5, generator=generator) + torch.nn.functional.one_hot(labels, 5)
    labels[3] = 1000
    x[7], labels[7] = x[8], labels[8]
    return x, labels


def cosines_of(x: Tensor) -> list[list[Tensor]]:
    rows = [row / row.square().sum().sqrt() for row in x]
    return [[(a * b).sum() for b in rows] for a in rows]


def distances_of(x: Tensor) -> list[list[Tensor]]:
    """Of the directions, from the differences of their coordinates; a duplicate is at 0, without a gradient."""
    rows = x / x.square().sum(1, keepdim=True).sqrt()
    squares = (rows[:, None] - rows).square().sum(2)
    d = torch.where(squares > 0, torch.where(squares > 0, squares, 1.0).sqrt(), 0.0)
    return [list(row.unbind()) for row in d.unbind()]


def positives(labels: list[int], i: int) -> list[int]:
    return [j for j in range(len(labels)) if labels[j] == labels[i] and j != i]


def negatives(labels: list[int], i: int) -> list[int]:
    return [j for j in range(len(labels)) if labels[j] != labels[i]]


def hold_loop_against_double(
    monkeypatch: pytest.MonkeyPatch, loss: Callable[[Tensor, Tensor], Tensor], samples: int, classes: int, atol: float
) -> None:
    """The compiled loop (float32) against the whole matrix in float64, where each class has many samples."""
    # Of these no two distances are so alike that float32 would choose the other one.
    x = torch.randn(samples, 4, generator=torch.Generator().manual_seed(15))
    labels = torch.arange(samples) % classes
    exact = x.double().requires_grad_()
    expected = loss(exact, labels)
    monkeypatch.setattr(pairs_rule, "SMALL", 0)
    leaf = x.clone().requires_grad_()
    found = loss(leaf, labels)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=atol)
    (gradient,), (true,) = torch.autograd.grad(found.sum(), leaf), torch.autograd.grad(expected.sum(), exact)
    torch.testing.assert_close(gradient.double(), true, rtol=1e-4, atol=1e-4 * float(true.abs().max()))


def hold_against_loops(
    monkeypatch: pytest.MonkeyPatch,
    loss: Callable[[Tensor, Tensor], Tensor],
    loop: Loop,
    gradient: bool = True,
    single: float = 2e-5,
    of: Callable[[Tensor], list[list[Tensor]]] = cosines_of,
) -> None:
    """On the whole matrix, in blocks of plain operations (float64) and in the compiled loop if there is one (float32)."""
    x, labels = batch()
    leaf = x.double().requires_grad_()
    expected = loop(of(leaf), labels.tolist())
    weight = torch.linspace(0.5, 1.5, expected.numel(), dtype=torch.float64).view(expected.shape)
    (true_slope,) = torch.autograd.grad((weight * expected).sum(), leaf)
    assert math.isfinite(float(expected.detach().sum()))
    monkeypatch.setattr(pairs_rule, "BLOCK", 1)
    monkeypatch.setattr(pairs_rule, "FEWEST_ANCHORS", 7)
    monkeypatch.setattr(once, "TILE", 7)
    for small, dtype in ((pairs_rule.SMALL, torch.float64), (0, torch.float64), (0, torch.float32)):
        monkeypatch.setattr(pairs_rule, "SMALL", small)
        leaf = x.to(dtype).requires_grad_()
        found = loss(leaf, labels)
        off = single if dtype == torch.float32 else 1e-9
        torch.testing.assert_close(found.double(), expected, rtol=off, atol=off)
        if gradient:
            (slope,) = torch.autograd.grad((weight.to(dtype) * found).sum(), leaf)
            scale = true_slope.abs().max()
            torch.testing.assert_close(slope.double() / scale, true_slope / scale, rtol=off, atol=off)
