"""Gradient caching gives the gradient of the plain backward pass, dropout included, in the memory of a chunk."""

import copy
import types
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import lossary
from lossary import LossaryError
from lossary.nn import GradientCache, gradient_cache


def model_of(*layers: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), *layers, nn.Linear(16, 8)).double()


def plainly(model: nn.Module, loss: Callable[..., Tensor], x: Tensor, *targets: Tensor, chunk: int) -> Tensor:
    value = loss(torch.cat([model(part) for part in x.split(chunk)]), *targets)
    value.backward()
    return value.detach()


@pytest.mark.parametrize("chunk", [1, 5, 64])
@pytest.mark.parametrize("name", ["sup_con", "multi_similarity", "triplet"])
def test_value_and_gradient_are_those_of_one_whole_batch(name: str, chunk: int) -> None:
    one, other = (model_of(nn.Tanh()) for _ in range(2))
    x, labels = torch.randn(23, 6, dtype=torch.float64), torch.arange(23) % 4
    loss = lossary.create(name)
    expected = plainly(one, loss, x, labels, chunk=23)
    found = GradientCache(other, loss, chunk_size=chunk).backward(x, labels)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close([p.grad for p in other.parameters()], [p.grad for p in one.parameters()])


def test_dropout_and_buffers_agree_and_random_numbers_go_on_as_after_one_pass() -> None:
    one = model_of(nn.Dropout(0.5), nn.BatchNorm1d(16))
    other = copy.deepcopy(one)
    x, labels = torch.randn(20, 6, dtype=torch.float64), torch.arange(20) % 4
    loss = lossary.create("sup_con")
    torch.manual_seed(7)
    expected = plainly(one, loss, x, labels, chunk=5)
    after = torch.rand(3)
    torch.manual_seed(7)
    found = GradientCache(other, loss, chunk_size=5).backward(x, labels)
    torch.testing.assert_close(torch.rand(3), after)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close([p.grad for p in other.parameters()], [p.grad for p in one.parameters()])
    torch.testing.assert_close(dict(other.named_buffers()), dict(one.named_buffers()))


def test_a_pair_of_models_and_a_loss_with_parameters_of_its_own() -> None:
    towers = [(model_of(nn.Tanh()), model_of(nn.ReLU())) for _ in range(2)]
    losses = [lossary.create("siglip").double() for _ in range(2)]
    a, b = torch.randn(2, 14, 6, dtype=torch.float64)
    value = losses[0](towers[0][0](a), towers[0][1](b))
    value.backward()
    found = GradientCache(towers[1], losses[1], chunk_size=4).backward((a, b))
    torch.testing.assert_close(found, value.detach())
    for one, other in zip((*towers[0], losses[0]), (*towers[1], losses[1]), strict=True):
        torch.testing.assert_close([p.grad for p in other.parameters()], [p.grad for p in one.parameters()])


def test_gradients_are_added_to_those_that_are_there() -> None:
    model, x, labels = model_of(nn.Tanh()), torch.randn(12, 6, dtype=torch.float64), torch.arange(12) % 3
    cache = GradientCache(model, lossary.create("sup_con"), chunk_size=4)
    cache.backward(x, labels)
    once = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    cache.backward(x, labels)
    torch.testing.assert_close([p.grad for p in model.parameters()], [2 * each for each in once])


def test_the_model_never_sees_more_than_a_chunk() -> None:
    seen: list[int] = []
    model = model_of(nn.Tanh())
    model.register_forward_hook(lambda _, given, __: seen.append(len(given[0])))
    GradientCache(model, lossary.create("sup_con"), chunk_size=5).backward(
        torch.randn(12, 6, dtype=torch.float64), torch.arange(12) % 3
    )
    assert seen == [5, 5, 2, 5, 5, 2]


def test_misuse_is_refused() -> None:
    with pytest.raises(lossary.LossaryError, match="chunk_size must be an integer >= 1, got 0"):
        GradientCache(model_of(), lossary.create("sup_con"), chunk_size=0)
    with pytest.raises(lossary.LossaryError, match="inputs must be as many as models, 1, got 2"):
        GradientCache(model_of(), lossary.create("sup_con"), chunk_size=2).backward((torch.ones(2, 6), torch.ones(2, 6)))
    inputs = torch.ones(4, 6, dtype=torch.float64)
    for given, got in ((torch.ones(2), r"a tensor of shape \(2,\)"), (torch.ones(()), "a constant"), (1.0, "float")):
        cache = GradientCache(model_of(), lambda embedding, given=given: given, chunk_size=2)
        with pytest.raises(lossary.LossaryError, match=f"loss must give one number that depends on the embeddings, got {got}"):
            cache.backward(inputs)
    with pytest.raises(lossary.LossaryError, match="inputs must have samples in dimension 0, got a single number"):
        cache.backward(torch.tensor(1.0))


def test_random_numbers_of_any_accelerator_are_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each state is asked of the module of the device's type, and given back to it; Apple's has one device alone."""
    for name, given in (("xpu:1", (torch.device("xpu:1"),)), ("mps", ())):
        states = {"now": torch.tensor([1])}
        calls: list[tuple[object, ...]] = []

        def get(*device: object, states: dict[str, torch.Tensor] = states, calls: list[tuple[object, ...]] = calls) -> torch.Tensor:
            calls.append(device)
            return states["now"]

        def put(state: torch.Tensor, *device: object, states: dict[str, torch.Tensor] = states) -> None:
            states["now"] = state

        module = types.SimpleNamespace(get_rng_state=get, set_rng_state=put)
        monkeypatch.setattr(torch, "get_device_module", lambda kind, module=module: module)
        kept = gradient_cache.random_state(torch.device(name))
        states["now"] = torch.tensor([2])
        gradient_cache.set_random_state(torch.device(name), kept)
        assert states["now"].tolist() == [1]
        assert calls == [given]
    monkeypatch.setattr(torch, "get_device_module", lambda kind: types.SimpleNamespace())
    with pytest.raises(LossaryError, match="inputs must be on a device whose random numbers can be replayed, got xpu"):
        gradient_cache.random_state(torch.device("xpu"))
