"""What is true of the worst-group loss alone; the conformance suite does the rest."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lossary import LossaryError
from lossary.losses.classification.cross_entropy import cross_entropy
from lossary.losses.classification.fairness_regularized import fairness_regularized
from lossary.losses.classification.worst_group import WorstGroupLoss, worst_group

GROUP = torch.tensor([4, -1, 4, 9, -1, 4])


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(6, 3, generator=generator, dtype=torch.float64) * 2, torch.randint(3, (6,), generator=generator)


def by_group(costs: list[float]) -> dict[int, float]:
    found: dict[int, list[float]] = {}
    for cost, group in zip(costs, GROUP.tolist(), strict=True):
        found.setdefault(group, []).append(cost)
    return {group: sum(own) / len(own) for group, own in found.items()}


def test_matches_a_loop_over_groups() -> None:
    logits, target = batch()
    costs = [math.log(sum(map(math.exp, z))) - z[y] for z, y in zip(logits.tolist(), target.tolist(), strict=True)]
    assert worst_group(logits, target, GROUP).item() == pytest.approx(max(by_group(costs).values()))


def test_binary_logits_match_a_loop_over_groups() -> None:
    logits, q = batch()[0][:, 0], torch.tensor([0.0, 1.0, 0.3, 1.0, 0.0, 1.0], dtype=torch.float64)
    costs = []
    for z, y in zip(logits.tolist(), q.tolist(), strict=True):
        p = 1 / (1 + math.exp(-z))
        costs.append(-y * math.log(p) - (1 - y) * math.log(1 - p))
    assert worst_group(logits, q, GROUP).item() == pytest.approx(max(by_group(costs).values()))
    two = torch.stack([torch.zeros_like(logits), logits], 1)
    torch.testing.assert_close(worst_group(two, torch.stack([1 - q, q], 1), GROUP), worst_group(logits, q, GROUP))


def test_bce_of_classes_is_each_against_the_rest() -> None:
    logits, target = batch()
    costs = []
    for z, y in zip(logits.tolist(), target.tolist(), strict=True):
        each = [math.log1p(math.exp(-v if c == y else v)) for c, v in enumerate(z)]
        costs.append(sum(each) / len(each))
    assert worst_group(logits, target, GROUP, base="bce").item() == pytest.approx(max(by_group(costs).values()))
    assert torch.equal(WorstGroupLoss(base="bce").link(logits), logits.sigmoid())
    assert torch.equal(WorstGroupLoss().link(logits[:, 0]), logits[:, 0].sigmoid())


@pytest.mark.parametrize("loss", [worst_group, fairness_regularized])
def test_one_group_is_the_mean_loss_and_more_never_cost_less(loss: Callable[..., Tensor]) -> None:
    for seed in range(5):
        logits, target = batch(seed)
        mean = cross_entropy(logits, target)
        torch.testing.assert_close(loss(logits, target, torch.full((6,), 3)), mean)
        assert loss(logits, target, GROUP) >= mean - 1e-12


@pytest.mark.parametrize("base", ["cross_entropy", "bce"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("loss", [worst_group, fairness_regularized])
def test_samples_of_class_minus_100_are_left_out(loss: Callable[..., Tensor], reduction: str, base: str) -> None:
    logits, target = batch()
    target[GROUP == 9] = -100  # a whole group
    target[0] = -100
    logits.requires_grad_()
    kept = target != -100
    value = loss(logits, target, GROUP, base=base, reduction=reduction)
    without = loss(logits[kept], target[kept], GROUP[kept], base=base, reduction=reduction)
    torch.testing.assert_close(value, without)
    torch.testing.assert_close(*(torch.autograd.grad(v, logits)[0] for v in (value, without)))
    nothing = loss(logits, torch.full_like(target, -100), GROUP, base=base, reduction=reduction)
    assert nothing == 0
    assert not torch.autograd.grad(nothing, logits)[0].any()


@pytest.mark.parametrize("loss", [worst_group, fairness_regularized])
def test_the_numbers_of_groups_do_not_matter(loss: Callable[..., Tensor]) -> None:
    logits, target = batch()
    renamed = torch.empty_like(GROUP)
    for old, new in ((4, 0), (-1, 10**12), (9, -7)):
        renamed[old == GROUP] = new
    assert loss(logits, target, renamed) == loss(logits, target, GROUP)


def test_the_gradient_comes_from_the_worst_group_alone() -> None:
    logits, target = batch()
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(worst_group(logits, target, GROUP), logits)
    touched = {int(group) for group, row in zip(GROUP, gradient, strict=True) if bool(row.any())}
    means = {g: cross_entropy(logits[g == GROUP], target[g == GROUP]).item() for g in (4, -1, 9)}
    assert touched == {max(means, key=lambda g: means[g])}


def test_groups_that_are_equally_bad_share_the_gradient() -> None:
    logits = torch.zeros(2, 2, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(worst_group(logits, torch.tensor([0, 1]), torch.tensor([0, 1])), logits)
    torch.testing.assert_close(gradient, torch.tensor([[-0.25, 0.25], [0.25, -0.25]], dtype=torch.float64))


@pytest.mark.parametrize(
    ("logits", "target", "message"),
    [
        (
            torch.zeros(3),
            torch.zeros(3).long(),
            r"target must be floating point where logits have the shape \(3,\), got torch.int64",
        ),
        (torch.zeros(3, 2, 4), torch.zeros(3, 4).long(), r"logits must have shape \(N,\) or \(N, C\), got \(3, 2, 4\)"),
        (torch.zeros(2, 2), torch.zeros(2).long(), r"group must have shape \(2,\), got \(3,\)"),
    ],
)
def test_bad_input_is_one_sentence(logits: Tensor, target: Tensor, message: str) -> None:
    with pytest.raises(LossaryError, match=f"^worst_group: {message}"):
        worst_group(logits, target, torch.zeros(3).long())


def separated(seed: int, majority: int, minority: int) -> tuple[Tensor, Tensor, Tensor]:
    """Two groups for which the second feature means the opposite."""
    generator = torch.Generator().manual_seed(seed)
    group = torch.cat([torch.zeros(majority), torch.ones(minority)]).long()
    y = torch.randint(2, group.shape, generator=generator).double()
    sign = (2 * y - 1).unsqueeze(1) * torch.stack([torch.ones_like(y), 1.0 - 2 * group], 1)
    return sign * 2 + torch.randn(len(y), 2, generator=generator, dtype=torch.float64), y, group


def worst_accuracy(loss: Callable[[Tensor, Tensor, Tensor], Tensor], seed: int) -> float:
    x, y, group = separated(seed, 900, 100)
    model = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([model], lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        loss(x @ model[:2] + model[2], y, group).backward()
        optimizer.step()
    x, y, group = separated(seed + 1000, 500, 500)
    right = ((x @ model[:2] + model[2] > 0) == y.bool()).double()
    return min(right[group == g].mean().item() for g in (0, 1))


def test_the_minority_is_served_better_than_by_the_mean_loss() -> None:
    losses: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
        "mean": lambda z, y, group: torch.nn.functional.binary_cross_entropy_with_logits(z, y),
        "worst": worst_group,
        "fair": fairness_regularized,
    }
    found = {name: sum(worst_accuracy(loss, seed) for seed in range(5)) / 5 for name, loss in losses.items()}
    assert found["worst"] > found["mean"] + 0.05, found
    assert found["fair"] > found["mean"] + 0.05, found
