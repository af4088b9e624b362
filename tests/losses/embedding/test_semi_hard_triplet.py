"""What is true of the semi-hard triplet loss alone; the conformance suite does the rest."""

import math

import pytest
import torch
from tests.losses.embedding.common import batch, distances_of, hold_against_loops, hold_loop_against_double, negatives, positives
from torch import Tensor

from lossary.losses.embedding.batch_hard_triplet import batch_hard_triplet
from lossary.losses.embedding.semi_hard_triplet import semi_hard_triplet


def terms(d: list[list[Tensor]], labels: list[int], i: int) -> list[Tensor]:
    row = d[i]
    found = []
    for p in positives(labels, i):
        farther = [row[n] for n in negatives(labels, i) if row[n] > row[p]]
        negative = min(farther) if farther else max(row[n] for n in negatives(labels, i))
        found.append((row[p] - negative + 0.3).relu())
    return found


def total(d: list[list[Tensor]], labels: list[int]) -> Tensor:
    found = [terms(d, labels, i) for i in range(len(labels))]
    return torch.stack([torch.stack(each).sum() if each else d[i][i] * 0 for i, each in enumerate(found)])


def mean(d: list[list[Tensor]], labels: list[int]) -> Tensor:
    return total(d, labels).sum() / sum(len(positives(labels, i)) for i in range(len(labels)))


def test_matches_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    hold_against_loops(monkeypatch, lambda x, y: semi_hard_triplet(x, y, margin=0.3, reduction="none"), total, of=distances_of)
    hold_against_loops(monkeypatch, lambda x, y: semi_hard_triplet(x, y, margin=0.3), mean, of=distances_of)


@pytest.mark.parametrize("classes", [2, 30])
def test_few_and_many_positives_take_two_ways_to_the_same_numbers(monkeypatch: pytest.MonkeyPatch, classes: int) -> None:
    hold_loop_against_double(
        monkeypatch, lambda x, y: semi_hard_triplet(x, y, margin=0.3, reduction="none"), 270, classes, atol=1e-4
    )


def at(*degrees: float) -> Tensor:
    angles = torch.tensor(degrees) * math.pi / 180
    return torch.stack([angles.cos(), angles.sin()], 1)


def chord(degrees: float) -> float:
    return 2 * math.sin(math.radians(degrees) / 2)


@pytest.mark.parametrize(
    ("negatives_at", "chosen"),
    [((20, 66, 75), 66), ((20, 61, 170), 61), ((20, 40, 50), 50), ((20, 120, 150), None)],
    ids=["the nearest that is farther", "however hard others are", "the farthest where none is", "nothing beyond the margin"],
)
def test_which_negative_is_chosen(negatives_at: tuple[float, ...], chosen: float | None) -> None:
    """An anchor at 0 degrees whose positive is at 60."""
    labels = torch.tensor([7, 7, *range(len(negatives_at))])
    found = semi_hard_triplet(at(0, 60, *negatives_at), labels, margin=0.2, reduction="none")[0]
    expected = 0.0 if chosen is None else chord(60) - chord(chosen) + 0.2
    assert float(found) == pytest.approx(expected, abs=1e-5)


def test_never_more_than_the_hardest_negative_would_cost() -> None:
    x, labels = batch()
    hardest = batch_hard_triplet(x, labels, reduction="none") * torch.tensor(
        [len(positives(labels.tolist(), i)) for i in range(len(x))]
    )
    found = semi_hard_triplet(x, labels, reduction="none")
    assert (found <= hardest + 1e-5).all()
    assert found.sum() > 0


def test_one_label_alone_or_no_pair_at_all_costs_nothing() -> None:
    for labels in (torch.zeros(4, dtype=torch.int64), torch.arange(4)):
        x = torch.randn(4, 3, requires_grad=True)
        loss = semi_hard_triplet(x, labels)
        loss.backward()
        assert x.grad is not None
        assert float(loss.detach()) == 0
        assert x.grad.abs().sum() == 0
