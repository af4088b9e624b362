"""What is true of NT-Xent alone; the conformance suite does the rest."""

import pytest
import torch
from tests.losses.embedding.common import hold_against_loops, negatives, positives
from torch import Tensor

from lossary.losses.embedding.nt_xent import nt_xent


def loop(s: list[list[Tensor]], labels: list[int]) -> Tensor:
    found = []
    for i in range(len(labels)):
        others = [(s[i][n] / 0.2).exp() for n in negatives(labels, i)]
        each = [-torch.log((s[i][p] / 0.2).exp() / ((s[i][p] / 0.2).exp() + sum(others))) for p in positives(labels, i)]
        found.append(torch.stack(each).sum() if each else s[i][i] * 0)
    return torch.stack(found)


def test_matches_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    hold_against_loops(monkeypatch, lambda x, y: nt_xent(x, y, temperature=0.2, reduction="none"), loop)

    def mean(s: list[list[Tensor]], labels: list[int]) -> Tensor:
        return loop(s, labels).sum() / sum(len(positives(labels, i)) for i in range(len(labels)))

    hold_against_loops(monkeypatch, lambda x, y: nt_xent(x, y, temperature=0.2), mean)


def test_two_views_are_a_softmax_over_all_other_views() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(5, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    views = torch.nn.functional.normalize(torch.cat([a, b]), dim=1)
    logits = (views @ views.T / 0.5).fill_diagonal_(-torch.inf)
    expected = torch.nn.functional.cross_entropy(logits, torch.arange(10).roll(5))
    torch.testing.assert_close(nt_xent(torch.cat([a, b]), torch.arange(5).repeat(2), temperature=0.5), expected)


def test_without_negatives_every_positive_is_certain() -> None:
    x = torch.randn(4, 3, requires_grad=True)
    loss = nt_xent(x, torch.zeros(4, dtype=torch.int64))
    loss.backward()
    assert x.grad is not None
    assert float(loss.detach()) == 0
    assert x.grad.abs().sum() == 0


@pytest.mark.parametrize("temperature", [0.001, 100.0])
def test_extreme_temperatures_stay_finite(temperature: float) -> None:
    x = torch.randn(300, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = nt_xent(x, torch.arange(300) % 7, temperature=temperature)
    loss.backward()
    assert x.grad is not None
    assert loss.isfinite()
    assert x.grad.isfinite().all()
