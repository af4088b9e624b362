"""What is true of the supervised contrastive loss alone; the conformance suite does the rest."""

import math

import pytest
import torch
from tests.losses.embedding.common import hold_against_loops, positives
from torch import Tensor

from lossary.losses.embedding.sup_con import sup_con


def loop(s: list[list[Tensor]], labels: list[int]) -> Tensor:
    found = []
    for i in range(len(labels)):
        others = sum(((s[i][a] / 0.2).exp() for a in range(len(labels)) if a != i), torch.zeros(()))
        each = [-((s[i][p] / 0.2).exp() / others).log() for p in positives(labels, i)]
        found.append(torch.stack(each).mean() if each else s[i][i] * 0)
    return torch.stack(found)


def test_matches_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    hold_against_loops(monkeypatch, lambda x, y: sup_con(x, y, temperature=0.2, reduction="none"), loop)
    hold_against_loops(monkeypatch, lambda x, y: sup_con(x, y, temperature=0.2), lambda s, y: loop(s, y).sum() / 23)
    hold_against_loops(monkeypatch, lambda x, y: sup_con(x, y, temperature=0.2, reduction="sum"), lambda s, y: loop(s, y).sum())


def test_two_samples_of_one_class_alone_cost_nothing_and_identical_ones_the_logarithm_of_their_number() -> None:
    x = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    assert float(sup_con(x, torch.tensor([4, 4]))) == pytest.approx(0, abs=1e-6)
    same = torch.ones(6, 3)
    assert float(sup_con(same, torch.tensor([0, 0, 0, 1, 1, 1]))) == pytest.approx(math.log(5), abs=1e-5)


def test_the_gradient_of_an_anchor_without_a_positive_comes_from_the_others_alone() -> None:
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    total = sup_con(x, torch.tensor([0, 0, 1]), reduction="sum")
    assert float(sup_con(x.detach(), torch.tensor([0, 0, 1]), reduction="none")[2]) == 0
    (gradient,) = torch.autograd.grad(total, x)
    assert gradient[2].abs().sum() > 0  # it is a negative of the other two
