"""What is true of the multi-similarity loss alone; the conformance suite does the rest."""

import math

import pytest
import torch
from tests.losses.embedding.common import batch, cosines_of, hold_against_loops, negatives, positives
from torch import Tensor

from lossary.losses.embedding.multi_similarity import MultiSimilarityLoss, multi_similarity


def mined(s: list[list[Tensor]], labels: list[int], i: int) -> tuple[list[int], list[int]]:
    p, n = positives(labels, i), negatives(labels, i)
    if not p or not n:
        return [], []
    keep_p = [j for j in p if s[i][j] < max(s[i][k] for k in n) + 0.1]
    keep_n = [j for j in n if s[i][j] > min(s[i][k] for k in p) - 0.1]
    return keep_p, keep_n


def loop(s: list[list[Tensor]], labels: list[int]) -> Tensor:
    found = []
    for i in range(len(labels)):
        p, n = mined(s, labels, i)
        pull = sum((torch.exp(-2 * (s[i][j] - 0.5)) for j in p), s[i][i] * 0)
        push = sum((torch.exp(40 * (s[i][j] - 0.5)) for j in n), s[i][i] * 0)
        found.append(torch.log(1 + pull) / 2 + torch.log(1 + push) / 40)
    return torch.stack(found)


def official(x: Tensor, y: Tensor, reduction: str = "mean", mining: bool = True) -> Tensor:
    return multi_similarity(x, y, alpha=2.0, beta=40.0, threshold=0.5, epsilon=0.1, mining=mining, reduction=reduction)  # type: ignore[arg-type]


def test_matches_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    hold_against_loops(monkeypatch, lambda x, y: official(x, y, "none"), loop)
    hold_against_loops(monkeypatch, official, lambda s, y: loop(s, y).mean())


def test_the_preset_has_the_parameters_of_the_authors_program() -> None:
    x, labels = batch()
    torch.testing.assert_close(MultiSimilarityLoss.official()(x, labels), official(x, labels))


def test_without_mining_all_pairs_take_part() -> None:
    x, labels = batch()
    s = cosines_of(x.double())
    y = labels.tolist()
    expected = [
        math.log1p(sum(math.exp(-2 * (s[i][p] - 0.5)) for p in positives(y, i))) / 2
        + math.log1p(sum(math.exp(40 * (s[i][n] - 0.5)) for n in negatives(y, i))) / 40
        for i in range(len(y))
        if positives(y, i)
    ]
    torch.testing.assert_close(
        official(x.double(), labels, mining=False), torch.tensor(sum(expected) / len(y), dtype=torch.float64)
    )


def test_mined_sets_are_both_empty_or_both_full() -> None:
    for seed in range(20):
        x = torch.randn(12, 3, generator=torch.Generator().manual_seed(seed))
        y = (torch.arange(12) % 4).tolist()
        for i in range(12):
            p, n = mined(cosines_of(x), y, i)
            assert bool(p) == bool(n)


def test_steep_exponentials_become_a_hinge_on_the_hardest_pairs() -> None:
    x, labels = batch()
    s = cosines_of(x.double())
    y = labels.tolist()
    expected = 0.0
    for i in range(len(y)):
        p, n = mined(s, y, i)
        if p:
            expected += max(0.0, 0.5 - min(float(s[i][j]) for j in p)) + max(0.0, max(float(s[i][j]) for j in n) - 0.5)
    found = multi_similarity(x.double(), labels, alpha=1e4, beta=1e4, threshold=0.5, reduction="sum")
    assert float(found) == pytest.approx(expected, abs=0.02)


def test_duplicates_of_an_anchor_are_positives() -> None:
    # A program that tells the anchor itself by a similarity near 1 drops them.
    x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.99, 0.1]], requires_grad=True)
    loss = MultiSimilarityLoss.official()(x, torch.tensor([0, 0, 1]))
    assert float(loss.detach()) > 0.3


def test_the_weight_of_a_negative_is_its_share() -> None:
    x, labels = batch()
    leaf = x.double().requires_grad_()
    unit = torch.nn.functional.normalize(leaf, dim=1)
    s = cosines_of(unit.detach())
    i = 0
    p, n = mined(s, labels.tolist(), i)
    push = sum(math.exp(40 * (s[i][j] - 0.5)) for j in n)
    pull = sum(math.exp(-2 * (s[i][j] - 0.5)) for j in p)
    by_anchor = sum((math.exp(40 * (s[i][j] - 0.5)) / (1 + push) * unit[j] for j in n), torch.zeros(5))
    by_anchor = by_anchor - sum((math.exp(-2 * (s[i][j] - 0.5)) / (1 + pull) * unit[j] for j in p), torch.zeros(5))
    value = official(torch.cat([leaf[:1], leaf[1:].detach()]), labels, "none")[0]
    (found,) = torch.autograd.grad(value, leaf)
    (expected,) = torch.autograd.grad((unit[0] * by_anchor.detach()).sum(), leaf)
    torch.testing.assert_close(found[0], expected[0])
