"""Distillation-oriented trainer: against loops over numbers, against SGD, and what optimizers must keep."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lossary.errors import InvalidTypeError, InvalidValueError
from lossary.optim import DistillationOrientedTrainer

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(20, 4, generator=GENERATOR, dtype=torch.float64)
Y = torch.randint(3, (20,), generator=GENERATOR)
TEACHER = torch.randn(20, 3, generator=GENERATOR, dtype=torch.float64)


def model() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def losses(net: nn.Module) -> tuple[Tensor, Tensor]:
    out = net(X)
    return torch.nn.functional.cross_entropy(out, Y), 0.5 * (out - TEACHER).square().mean()


def groups(net: nn.Module) -> list[dict[str, object]]:
    first, _, last = net.children()
    return [{"params": first.parameters()}, {"params": last.parameters(), "lr": 0.03, "momentum": 0.5, "weight_decay": 0.2}]


def test_without_a_difference_it_is_sgd_on_the_sum_step_by_step_in_every_group() -> None:
    ours, plain = model(), model()
    dot = DistillationOrientedTrainer(groups(ours), lr=0.1, delta=0.0, weight_decay=0.01)
    sgd = torch.optim.SGD(groups(plain), lr=0.1, momentum=0.9, weight_decay=0.01)
    for _ in range(12):
        dot.step(*losses(ours))
        sgd.zero_grad()
        sum(losses(plain), torch.zeros(())).backward()
        sgd.step()
        for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_steps_are_those_of_a_loop_over_numbers(decay: float) -> None:
    weight = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
    dot = DistillationOrientedTrainer([weight], lr=0.1, momentum=0.8, delta=0.15, weight_decay=decay)
    value, u, v = 2.0, None, None
    for i in range(6):
        dot.step((weight - i).square().sum(), 3 * weight.cos().sum())
        task, distill = 2 * (value - i) + decay * value, -3 * float(torch.tensor(value, dtype=torch.float64).sin())
        u = task if u is None else 0.65 * u + task
        v = distill if v is None else 0.95 * v + distill
        value -= 0.1 * (u + v)
        assert weight.item() == pytest.approx(value, rel=1e-12)


def test_two_backward_passes_by_hand_are_the_same() -> None:
    ours, by_hand = model(), model()
    dot, other = (DistillationOrientedTrainer(net.parameters(), lr=0.1) for net in (ours, by_hand))
    for _ in range(4):
        dot.step(*losses(ours))
        task, distill = losses(by_hand)
        other.zero_grad()
        distill.backward(retain_graph=True)
        other.step_kd()
        other.zero_grad()
        task.backward()
        other.step()
    for one, two in zip(ours.parameters(), by_hand.parameters(), strict=True):
        assert torch.equal(one, two)


def test_a_parameter_with_one_gradient_moves_as_by_sgd() -> None:
    def run(make: Callable[[list[Tensor]], torch.optim.Optimizer], which: int) -> Tensor:
        weight = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
        other = torch.ones(1, dtype=torch.float64, requires_grad=True)
        optimizer = make([weight, other])
        for _ in range(5):
            pair = [weight.square().sum(), other.sum()]
            if isinstance(optimizer, DistillationOrientedTrainer):
                optimizer.step(*(pair if which == 0 else pair[::-1]))
            else:
                optimizer.zero_grad()
                sum(pair, torch.zeros(())).backward()
                optimizer.step()
        return weight.detach()

    sgd = run(lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9, weight_decay=0.1), 0)
    for which in (0, 1):
        dot = run(lambda params: DistillationOrientedTrainer(params, lr=0.1, weight_decay=0.1), which)
        torch.testing.assert_close(dot, sgd)


def test_what_is_remembered_travels_in_the_state_dict() -> None:
    ours = model()
    dot = DistillationOrientedTrainer(groups(ours), lr=0.1)
    for _ in range(3):
        dot.step(*losses(ours))
    state, weights = copy.deepcopy(dot.state_dict()), copy.deepcopy(ours.state_dict())
    dot.step(*losses(ours))
    resumed = model()
    resumed.load_state_dict(weights)
    again = DistillationOrientedTrainer(groups(resumed), lr=9.0)
    again.load_state_dict(state)
    again.step(*losses(resumed))
    for one, two in zip(ours.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, two)
    assert set(dot.state[next(ours.parameters())]) == {"task_momentum", "distill_momentum"}


def test_half_a_step_is_remembered_too() -> None:
    ours = model()
    dot = DistillationOrientedTrainer(ours.parameters(), lr=0.1)
    losses(ours)[1].backward()
    dot.step_kd()
    other = DistillationOrientedTrainer(ours.parameters(), lr=0.1)
    other.load_state_dict(dot.state_dict())
    dot.zero_grad()
    before = [p.detach().clone() for p in ours.parameters()]
    other.step()
    assert all(not torch.equal(p, b) for p, b in zip(ours.parameters(), before, strict=True))


def test_what_is_frozen_or_without_a_gradient_does_not_move_and_other_modules_get_none() -> None:
    frozen, still = torch.ones(2), torch.ones(2, requires_grad=True)
    moving, elsewhere = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    dot = DistillationOrientedTrainer([frozen, still, moving], lr=0.1, weight_decay=0.1)
    dot.step((moving * elsewhere).sum(), moving.square().sum())
    assert torch.equal(frozen, torch.ones(2))
    assert torch.equal(still, torch.ones(2))
    assert (moving < 1).all()
    assert elsewhere.grad is None


def test_a_scheduler_sets_the_rate() -> None:
    weight = torch.zeros(1, requires_grad=True)
    dot = DistillationOrientedTrainer([weight], lr=1.0, momentum=0.0, delta=0.0)
    scheduler = torch.optim.lr_scheduler.StepLR(dot, 1, gamma=0.5)
    for _ in range(3):
        dot.step(weight.sum(), weight.sum())
        scheduler.step()
    assert weight.item() == -3.5


def test_mistakes_are_named() -> None:
    weight = torch.zeros(1, requires_grad=True)
    with pytest.raises(InvalidValueError, match="dot: lr must be a finite number >= 0, got -1"):
        DistillationOrientedTrainer([weight], lr=-1)
    with pytest.raises(InvalidValueError, match=r"dot: delta must be at most momentum and less than 1 - momentum, got 0\.2 with"):
        DistillationOrientedTrainer([weight], lr=1.0, delta=0.2)
    with pytest.raises(InvalidValueError, match=r"dot: delta must be at most momentum .*, got 0\.075 with a momentum of 0\.05"):
        DistillationOrientedTrainer([{"params": [weight], "momentum": 0.05}], lr=1.0)
    with pytest.raises(InvalidTypeError, match=r"dot: params must be real, got torch\.complex64"):
        DistillationOrientedTrainer([torch.zeros(1, dtype=torch.complex64, requires_grad=True)], lr=1.0)
    table = nn.Embedding(4, 2, sparse=True)
    with pytest.raises(InvalidTypeError, match="dot: gradients must be dense, got a sparse one"):
        DistillationOrientedTrainer(table.parameters(), lr=1.0).step(table(torch.tensor([1])).sum())


def test_what_is_no_pair_of_losses_is_refused() -> None:
    weight = torch.tensor([1.0], requires_grad=True)
    optimizer = DistillationOrientedTrainer([weight], lr=0.1)
    with pytest.raises(InvalidTypeError, match="dot: task_loss must be a tensor, got function"):
        optimizer.step(lambda: weight.sum())  # type: ignore[arg-type]
    with pytest.raises(InvalidTypeError, match="dot: distill_loss must be a tensor, got float"):
        optimizer.step(weight.sum(), 2.0)  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match=r"dot: task_loss must be one number, got shape \(2,\)"):
        optimizer.step(weight * torch.ones(2))
    with pytest.raises(InvalidValueError, match="dot: distill_loss must depend on the parameters, got a constant"):
        optimizer.step(weight.sum(), torch.tensor(2.0))
    with pytest.raises(InvalidValueError, match="dot: distill_loss must come with task_loss, got it alone"):
        optimizer.step(distill_loss=weight.sum())  # whose gradient would count as that of the labels, too
    assert weight.item() == 1
