"""The target that follows: against the recursion by hand, and what it must not touch."""

import copy

import pytest
import torch
from torch import Tensor, nn

from lossary.errors import InvalidTypeError, InvalidValueError
from lossary.nn import EmaTarget


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def weight_of(module: nn.Module) -> Tensor:
    found: Tensor = module.state_dict()["0.weight"]
    return found


def test_follows_by_the_recursion() -> None:
    online = network()
    target = EmaTarget(online, momentum=0.9)
    expected = weight_of(online).double().clone()
    for step in range(5):
        with torch.no_grad():
            weight_of(online).add_(0.1 * (step + 1))
        target.update(online)
        expected = 0.9 * expected + 0.1 * weight_of(online).double()
    torch.testing.assert_close(weight_of(target.module).double(), expected, atol=1e-6, rtol=0)


def test_momentum_0_is_a_copy_and_1_stands_still() -> None:
    online = network()
    first = copy.deepcopy(online.state_dict())
    still, copied = EmaTarget(online, momentum=1.0), EmaTarget(online, momentum=0.0)
    with torch.no_grad():
        weight_of(online).mul_(3.0)
    still.update(online)
    copied.update(online)
    assert torch.equal(weight_of(still.module), first["0.weight"])
    assert torch.equal(weight_of(copied.module), weight_of(online))
    still.update(online, momentum=0.0)  # a schedule's value for this update
    assert torch.equal(weight_of(still.module), weight_of(online))


def test_has_no_gradient_and_leaves_the_module_alone() -> None:
    online = network()
    before = copy.deepcopy(online.state_dict())
    target = EmaTarget(online)
    assert target.momentum == 0.996
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert not target(x).requires_grad
    assert not any(p.requires_grad for p in target.parameters())
    target.update(online)
    assert all(torch.equal(value, before[name]) for name, value in online.state_dict().items())
    assert all(p.requires_grad for p in online.parameters())


def test_running_statistics_are_taken_over() -> None:
    online = network()
    target = EmaTarget(online)
    online(torch.randn(50, 3, generator=torch.Generator().manual_seed(0)))
    target.update(online)
    kept, given = target.module.state_dict(), online.state_dict()
    assert torch.equal(kept["1.running_mean"], given["1.running_mean"])
    assert int(kept["1.num_batches_tracked"]) == 1


def test_state_travels() -> None:
    online = network()
    target = EmaTarget(online, momentum=0.5)
    with torch.no_grad():
        weight_of(online).add_(1.0)
    target.update(online)
    other = EmaTarget(network())
    other.load_state_dict(target.state_dict())
    assert torch.equal(weight_of(other.module), weight_of(target.module))


def test_mistakes_get_a_sentence() -> None:
    target = EmaTarget(network())
    with pytest.raises(InvalidValueError, match="ema_target: module must have the parameters of the module"):
        target.update(nn.Linear(3, 4))
    with pytest.raises(InvalidValueError, match=r"ema_target: momentum must be a number from 0 to 1, got 1.5"):
        EmaTarget(network(), momentum=1.5)
    with pytest.raises(InvalidValueError, match=r"ema_target: momentum must be a number from 0 to 1 or None, got -1.0"):
        target.update(network(), momentum=-1.0)
    with pytest.raises(InvalidTypeError, match=r"ema_target: module must be a torch.nn.Module, got int"):
        EmaTarget(3)  # type: ignore[arg-type]
