"""Set cross-entropy against all assignments, and what an order of members may not change."""

import itertools

import pytest
import torch
from torch import Tensor
from torch.func import grad, vmap
from torch.nn.functional import cross_entropy

from lossary.errors import InvalidTypeError, InvalidValueError
from lossary.losses.sets import SetCrossEntropyLoss, _assignment

solvers = pytest.mark.parametrize("few", [0, 10_000])  # by the compiled solver, and by trying all


def drawn(samples: int, slots: int, members: int, classes: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(slots)
    logits = 2 * torch.randn(samples, slots, classes, generator=generator, dtype=torch.float64)
    target = torch.randint(classes, (samples, members), generator=generator)
    padded = torch.rand(samples, members, generator=generator) < 0.3
    return logits, target.masked_fill(padded, -100)


def by_trying(logits: Tensor, target: Tensor) -> tuple[float, int]:
    members = [t for t in target.tolist() if t != -100]
    costs = (-logits.log_softmax(1)).tolist()
    ways = itertools.permutations(range(len(costs)), len(members))
    return min(sum(costs[slot][t] for slot, t in zip(way, members, strict=True)) for way in ways), len(members)


@solvers
@pytest.mark.parametrize(("slots", "members"), [(4, 4), (5, 3), (6, 5), (3, 1), (3, 0)])
def test_matches_the_best_of_all_assignments(slots: int, members: int, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_assignment, "FEW", few)
    logits, target = drawn(6, slots, members)
    best = [by_trying(*pair) for pair in zip(logits, target, strict=True)]
    value = SetCrossEntropyLoss(reduction="none")(logits, target)
    torch.testing.assert_close(value, logits.new_tensor([total for total, _ in best]))
    count = max(sum(count for _, count in best), 1)
    torch.testing.assert_close(SetCrossEntropyLoss()(logits, target), logits.new_tensor(sum(total for total, _ in best) / count))


@solvers
def test_the_order_of_the_members_does_not_matter(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_assignment, "FEW", few)
    logits, target = drawn(8, 5, 5)
    order = torch.stack([torch.randperm(5, generator=torch.Generator().manual_seed(i)) for i in range(8)])
    found = []
    for members in (target, target.gather(1, order)):
        leaf = logits.clone().requires_grad_()
        value = SetCrossEntropyLoss()(leaf, members)
        found.append((value, torch.autograd.grad(value, leaf)[0]))
    torch.testing.assert_close(found[0], found[1])


@solvers
def test_is_never_above_cross_entropy_in_the_given_order_and_has_its_gradient(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_assignment, "FEW", few)
    logits, target = drawn(9, 5, 5)
    value = SetCrossEntropyLoss()(logits, target)
    assert value < cross_entropy(logits.transpose(1, 2), target)
    sharp = 50.0 * torch.nn.functional.one_hot(target.clamp_min(0), 6).double() + logits
    pair = []
    for loss in (SetCrossEntropyLoss(), lambda z, t: cross_entropy(z.transpose(1, 2), t)):
        leaf = sharp.clone().requires_grad_()  # each slot stands for the member at its place
        pair.append(torch.autograd.grad(loss(leaf, target), leaf)[0])
    torch.testing.assert_close(pair[0], pair[1])


@solvers
def test_transforms(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_assignment, "FEW", few)
    logits, target = drawn(4, 5, 3)
    loss, stacked = SetCrossEntropyLoss(), torch.stack([logits, -logits, 0.1 * logits])
    one_by_one = torch.stack([grad(loss)(z, target) for z in stacked])
    torch.testing.assert_close(vmap(grad(loss), (0, None))(stacked, target), one_by_one)


def test_large_batches_take_blocks() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(40, 8, 500, generator=generator)
    target = torch.randint(500, (40, 8), generator=generator)
    parts = [SetCrossEntropyLoss(reduction="none")(z, t) for z, t in zip(logits.split(4), target.split(4), strict=True)]
    torch.testing.assert_close(SetCrossEntropyLoss(reduction="none")(logits, target), torch.cat(parts))


def test_a_member_without_a_number_is_no_number() -> None:
    logits = torch.full((1, 6, 4), torch.nan)
    assert SetCrossEntropyLoss()(logits, torch.tensor([[0, 1, 2, 3, 0, 1]])).isnan()


def test_refusals() -> None:
    loss, logits = SetCrossEntropyLoss(), torch.zeros(2, 3, 4)
    with pytest.raises(InvalidValueError, match=r"target must have shape \(2, T\) with T <= 3 slots, got \(2, 4\)"):
        loss(logits, torch.zeros(2, 4).long())
    with pytest.raises(InvalidTypeError, match=r"set_cross_entropy: target must be integers \(int64\), got torch\.float32"):
        loss(logits, torch.zeros(2, 3))
    with pytest.raises(InvalidValueError, match=r"set_cross_entropy: logits must have shape \(N, S, V\), got \(2, 3\)"):
        loss(logits[..., 0], torch.zeros(2, 3).long())
