"""Sign, normalized and rescaled sign descent: against loops over numbers, the exact toy case, and what optimizers must keep."""

import copy
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lossary.errors import InvalidTypeError, InvalidValueError, LossaryError
from lossary.optim import DistillationOrientedTrainer, NormalizedSGD, RescaledSignSGD, SignSGD
from lossary.optim._common import TransformedGradient, _scaled, absolute_sum, euclidean_norm

Made = Callable[..., TransformedGradient]
ALL: list[Made] = [SignSGD, NormalizedSGD, RescaledSignSGD]
each = pytest.mark.parametrize("optimizer", ALL, ids=lambda optimizer: optimizer.name)


def sign(x: float) -> float:
    return math.copysign(1.0, x) if x else 0.0


def by_hand(
    name: str, values: list[float], gradients: list[list[float]], rates: list[float], momentum: float, decay: float
) -> list[float]:
    """Plain numbers: one list for all parameters, a rate for each of them."""
    buffers = [0.0] * len(values)
    for gradient in gradients:
        if name == "normalized_sgd":
            length = math.sqrt(math.fsum(g * g for g in gradient))
            direction = [g / length if length else 0.0 for g in gradient]
        else:
            size = math.fsum(abs(g) for g in gradient) if name == "rescaled_sign_sgd" else 1.0
            direction = [size * sign(g) for g in gradient]
        buffers = [momentum * b + d for b, d in zip(buffers, direction, strict=True)]
        values = [(1 - lr * decay) * v - lr * b for v, lr, b in zip(values, rates, buffers, strict=True)]
    return values


@each
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_steps_are_those_of_a_loop_with_one_norm_over_all_groups(optimizer: Made, momentum: float, decay: float) -> None:
    generator = torch.Generator().manual_seed(0)
    parameters = [torch.randn(2, 3, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(3)]
    start = [v for p in parameters for v in p.flatten().tolist()]
    groups = [{"params": parameters[:2]}, {"params": parameters[2:], "lr": 0.5}]
    descent = optimizer(groups, lr=0.1, momentum=momentum, weight_decay=decay)
    history = []
    for _ in range(4):
        for p in parameters:
            p.grad = torch.randn(2, 3, dtype=torch.float64, generator=generator)
            p.grad[0, 0] = 0.0
        history.append([v for p in parameters for v in p.grad.flatten().tolist()])  # type: ignore[union-attr]
        descent.step()
    expected = by_hand(descent.name, start, history, [0.1] * 12 + [0.5] * 6, momentum, decay)
    assert [v for p in parameters for v in p.flatten().tolist()] == pytest.approx(expected, rel=1e-12)


def test_every_class_has_the_same_loss_under_sign_descent_whatever_its_frequency() -> None:
    """Inputs one-hot in the class, weights from zero: log(1 + (C - 1) exp(-2 lr T)) after T steps, exactly."""
    target = torch.tensor([0] * 16 + [1] * 4 + [2] * 4 + [3])
    inputs = nn.functional.one_hot(target, 4).double()
    weight = torch.zeros(4, 4, dtype=torch.float64, requires_grad=True)
    descent = SignSGD([weight], lr=0.05)
    for step in range(1, 31):
        descent.zero_grad()
        nn.functional.cross_entropy(inputs @ weight, target).backward()
        descent.step()
        losses = nn.functional.cross_entropy(inputs @ weight, target, reduction="none")
        expected = math.log(1 + 3 * math.exp(-2 * 0.05 * step))
        torch.testing.assert_close(losses.detach(), torch.full((25,), expected, dtype=torch.float64))


@each
def test_it_goes_on_from_its_state_dict(optimizer: Made) -> None:
    def problem(seed: int) -> tuple[nn.Module, TransformedGradient]:
        torch.manual_seed(seed)
        model = nn.Linear(3, 2)
        return model, optimizer(model.parameters(), lr=0.1, momentum=0.9)

    def train(model: nn.Module, descent: TransformedGradient, steps: int) -> None:
        for _ in range(steps):
            descent.zero_grad()
            model(torch.ones(4, 3)).square().sum().backward()
            descent.step()

    with torch.random.fork_rng():
        model, descent = problem(0)
        train(model, descent, 3)
        other, resumed = problem(1)
    other.load_state_dict(model.state_dict())
    resumed.load_state_dict(copy.deepcopy(descent.state_dict()))
    train(model, descent, 3)
    train(other, resumed, 3)
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@each
def test_a_closure_is_called_with_gradients_and_its_loss_returned(optimizer: Made) -> None:
    weight = torch.tensor([3.0], requires_grad=True)
    descent = optimizer([weight], lr=0.1)

    def closure() -> float:
        descent.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return loss.item()

    with torch.no_grad():
        assert descent.step(closure) == 9.0
        assert not torch.is_grad_enabled()
    assert weight.item() < 3.0


@each
def test_no_gradient_and_a_gradient_of_zero_move_nothing(optimizer: Made) -> None:
    frozen, still, moving = (torch.ones(2, requires_grad=True) for _ in range(3))
    descent = optimizer([frozen, still, moving], lr=0.1)
    descent.step()  # no gradient anywhere
    still.grad = torch.zeros(2)
    descent.step()
    assert torch.equal(still, torch.ones(2))
    moving.grad = torch.ones(2)
    descent.step()
    assert torch.equal(frozen, torch.ones(2))
    assert torch.equal(still, torch.ones(2))
    assert (moving < 1).all()


@pytest.mark.parametrize("size", [1e-30, 1e-22, 1.0, 1e22, 1e30])
def test_the_length_of_a_step_does_not_depend_on_the_gradient(size: float) -> None:
    weights = [torch.zeros(50, requires_grad=True), torch.zeros(50, requires_grad=True)]
    for weight in weights:
        weight.grad = torch.full((50,), size)
    NormalizedSGD(weights, lr=1.0).step()
    assert torch.cat(weights).norm().item() == pytest.approx(1.0, rel=1e-5)


def test_norms_of_many_and_of_mixed_tensors_are_exact() -> None:
    many = [torch.ones(2**24 + 64), torch.ones(2**10)]
    assert float(absolute_sum(many)) == 2**24 + 64 + 2**10
    assert float(euclidean_norm(many)) == pytest.approx(math.sqrt(2**24 + 64 + 2**10), rel=1e-6)
    mixed = [torch.full((4,), 3.0, dtype=torch.float16), torch.full((4,), 4.0, dtype=torch.float64)]
    assert float(euclidean_norm(mixed)) == 10.0
    assert float(absolute_sum(mixed)) == 28.0
    half = [torch.full((9,), 30000.0, dtype=torch.float16)]
    assert float(euclidean_norm(half)) == pytest.approx(90000.0)
    assert float(absolute_sum(half)) == 270000.0


def test_what_accelerators_do_is_the_same() -> None:
    (scaled,) = _scaled([torch.tensor([1e-6, 2e-6], dtype=torch.float16)], torch.tensor(1e6, dtype=torch.float64))
    assert scaled.dtype == torch.float32
    torch.testing.assert_close(scaled, torch.tensor([1.0, 2.0]), atol=0.05, rtol=0)


@each
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_moves_as_single_precision_does(optimizer: Made, dtype: torch.dtype) -> None:
    ends = []
    for kind in (dtype, torch.float32):
        weight = torch.zeros(8, dtype=kind, requires_grad=True)
        descent = optimizer([weight], lr=0.25, momentum=0.5)
        for gradient in (1.0, -2.0, 4.0):
            weight.grad = torch.full((8,), gradient, dtype=kind)
            descent.step()
        ends.append(weight.detach().float())
        assert descent.state[weight]["momentum_buffer"].dtype == kind
    torch.testing.assert_close(ends[0], ends[1], atol=0.01, rtol=0.01)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_a_factor_that_does_not_fit_into_half_precision(momentum: float) -> None:
    """One over a tiny norm, and a sum of many magnitudes."""
    weight = torch.zeros(4, dtype=torch.float16, requires_grad=True)
    weight.grad = torch.full((4,), 2.0**-20, dtype=torch.float16)
    NormalizedSGD([weight], lr=1.0, momentum=momentum).step()
    assert weight.tolist() == [-0.5] * 4
    weight.grad = torch.full((4,), 30000.0, dtype=torch.float16)
    RescaledSignSGD([weight], lr=2.0**-17).step()
    assert weight.tolist() == pytest.approx([-0.5 - 120000 / 2**17] * 4, rel=1e-3)


@each
def test_a_scheduler_sets_the_rate(optimizer: Made) -> None:
    weight = torch.zeros(1, requires_grad=True)
    descent = optimizer([weight], lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(descent, 1, gamma=0.5)
    for _ in range(3):
        weight.grad = torch.ones(1)
        descent.step()
        scheduler.step()
    assert weight.item() == -1.75


@each
def test_mistakes_are_named(optimizer: Made) -> None:
    weight = torch.zeros(1, requires_grad=True)
    name = optimizer.name  # type: ignore[attr-defined]
    with pytest.raises(InvalidValueError, match=f"{name}: lr must be a finite number >= 0, got -1"):
        optimizer([weight], lr=-1)
    with pytest.raises(InvalidValueError, match=f"{name}: momentum must be a number from 0 to 1, got 2"):
        optimizer([{"params": [weight], "momentum": 2}], lr=1.0)
    with pytest.raises(InvalidTypeError, match=f"{name}: params must be real, got torch.complex64"):
        optimizer([torch.zeros(1, dtype=torch.complex64, requires_grad=True)], lr=1.0)
    table = nn.Embedding(4, 2, sparse=True)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(InvalidTypeError, match=f"{name}: gradients must be dense, got a sparse one"):
        optimizer(table.parameters(), lr=1.0).step()


@pytest.mark.parametrize("optimizer", [*ALL, DistillationOrientedTrainer])
@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ([], "must hold at least one tensor, or group of them, got none"),
        (iter(()), "must hold at least one tensor, or group of them, got none"),
        (torch.zeros(1), "must be several tensors, or groups of them, got Tensor"),
        (None, "must be several tensors, or groups of them, got NoneType"),
        (["weight"], "optimizer can only optimize Tensors, but one of the params is str"),
        ([2 * torch.ones(1, requires_grad=True)], "can't optimize a non-leaf Tensor"),
        ([{"lr": 1.0}], "a group must be a dict with its tensors under 'params', got {'lr': 1.0}"),
    ],
    ids=["none", "exhausted", "tensor", "nothing", "text", "no leaf", "no params"],
)
def test_what_cannot_be_optimized_is_refused_by_name(optimizer: type[Optimizer], params: Any, sentence: str) -> None:
    name = getattr(optimizer, "name", "dot")
    with pytest.raises(LossaryError, match=f"^{name}: .*{re.escape(sentence)}$"):
        optimizer(params, lr=0.1)  # type: ignore[call-arg]


@each
def test_a_loss_is_no_closure(optimizer: Made) -> None:
    with pytest.raises(InvalidTypeError, match="closure must be a function that returns the loss, got Tensor"):
        optimizer([torch.zeros(1, requires_grad=True)], lr=0.1).step(torch.zeros(()))  # type: ignore[call-overload]


def test_sign_descent_leaves_rows_that_did_not_occur() -> None:
    table = nn.Embedding(4, 2)
    before: Tensor = table.weight.detach().clone()
    table(torch.tensor([1])).sum().backward()
    SignSGD(table.parameters(), lr=0.5).step()
    assert torch.equal(table.weight[[0, 2, 3]], before[[0, 2, 3]])
    torch.testing.assert_close(table.weight[1], before[1] - 0.5)
