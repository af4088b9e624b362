"""What is true of the circle loss alone; the conformance suite does the rest."""

import pytest
import torch
from tests.losses.embedding.common import hold_against_loops, negatives, positives
from torch import Tensor

from lossary.losses.embedding.circle import circle


def loop(s: list[list[Tensor]], labels: list[int]) -> Tensor:
    found = []
    for i in range(len(labels)):
        pull, push = s[i][i] * 0, s[i][i] * 0
        for p in positives(labels, i):
            pull = pull + torch.exp(-8 * (1.25 - s[i][p].detach()).relu() * (s[i][p] - 0.75))
        for n in negatives(labels, i):
            push = push + torch.exp(8 * (s[i][n].detach() + 0.25).relu() * (s[i][n] - 0.25))
        found.append(torch.log1p(pull * push))
    return torch.stack(found)


def test_matches_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    hold_against_loops(monkeypatch, lambda x, y: circle(x, y, margin=0.25, gamma=8.0, reduction="none"), loop)
    hold_against_loops(monkeypatch, lambda x, y: circle(x, y, margin=0.25, gamma=8.0), lambda s, y: loop(s, y).sum() / 23)


def test_large_scales_stay_finite_in_the_compiled_loop() -> None:
    x = torch.randn(300, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = circle(x, torch.arange(300) % 7, gamma=1000.0)
    torch.testing.assert_close(loss.double(), circle(x.double(), torch.arange(300) % 7, gamma=1000.0), rtol=1e-5, atol=0)
    loss.backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_one_label_alone_costs_nothing() -> None:
    assert float(circle(torch.randn(4, 3), torch.zeros(4, dtype=torch.int64))) == 0
    assert float(circle(torch.randn(4, 3), torch.arange(4))) == 0
