"""Losses of very many classes, tile by tile, give what they give on the whole scores."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lossary import functional
from lossary._fast.pairs import classifiers

GENERATOR = torch.Generator().manual_seed(0)
NAMES = ("normalized_softmax", "cosface", "arcface", "unpg")
each = pytest.mark.parametrize("name", NAMES)


def batch(n: int, classes: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    x = torch.randn(n, 6, generator=GENERATOR, dtype=dtype).requires_grad_()
    w = torch.randn(classes, 6, generator=GENERATOR, dtype=dtype).requires_grad_()
    return x, torch.randint(classes, (n,), generator=GENERATOR), w


def both(monkeypatch: pytest.MonkeyPatch, run: Callable[[], Any]) -> tuple[Any, Any]:
    """On the whole scores, and on tiles of three samples and seven classes."""
    whole = run()
    monkeypatch.setattr(classifiers, "LARGE", 0)
    monkeypatch.setattr(classifiers, "ROWS", 3)
    monkeypatch.setattr("lossary._fast.dispatch.BLOCK", 21)
    return whole, run()


@each
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_values_and_gradients_are_those_of_the_whole(name: str, reduction: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, target, w = batch(10, 30)
    target[[1, 4]] = -100
    weight = torch.rand(30, generator=GENERATOR, dtype=torch.float64)
    loss = getattr(functional, name)

    def run() -> tuple[Tensor, ...]:
        value = loss(x, target, w, class_weight=weight, reduction=reduction)
        return value.detach(), *torch.autograd.grad(3 * value, (x, w))

    for one, other in zip(*both(monkeypatch, run), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", NAMES[:3])
def test_each_sample_has_its_own_upstream_gradient(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, target, w = batch(10, 30)
    upstream = torch.randn(10, generator=GENERATOR, dtype=torch.float64)

    def run() -> tuple[Tensor, ...]:
        value = getattr(functional, name)(x, target, w, reduction="none")
        return value.detach(), *torch.autograd.grad(value, (x, w), upstream)

    for one, other in zip(*both(monkeypatch, run), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-10, atol=1e-12)


@each
def test_second_derivatives_and_stacks_of_models(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, target, w = batch(5, 12)
    stack = torch.stack([x.detach(), 2 * x.detach().flip(0), -x.detach()])
    loss = getattr(functional, name)

    def run() -> tuple[Tensor, ...]:
        (gradient,) = torch.autograd.grad(loss(x, target, w, scale=4.0), x, create_graph=True)
        second = torch.autograd.grad(gradient.square().sum(), (x, w))
        mapped = torch.func.vmap(torch.func.grad(lambda x: loss(x, target, w.detach(), scale=4.0)))(stack)
        return *second, mapped

    for one, other in zip(*both(monkeypatch, run), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_precision_is_that_of_the_whole(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    x, target, w = batch(40, 500, torch.float32)
    low = x.detach().to(dtype).requires_grad_()

    def run() -> tuple[Tensor, ...]:
        value = functional.arcface(low, target, w)
        return value.detach(), *torch.autograd.grad(value, (low, w))

    for one, other in zip(*both(monkeypatch, run), strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(other, one, rtol=2e-2 if one.dtype == torch.bfloat16 else 1e-4, atol=1e-6)


def test_nothing_as_large_as_the_scores_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifiers, "LARGE", 1 << 16)
    seen: list[int] = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            found = function(*args, **(kwargs or {}))
            tensors = [each for each in torch.utils._pytree.tree_leaves(found) if isinstance(each, Tensor)]
            seen.extend(each.untyped_storage().nbytes() // 4 for each in tensors)
            return found

    x, target, w = batch(300, 2000, torch.float32)
    with Watch():  # type: ignore[no-untyped-call]
        functional.arcface(x, target, w).backward()
    assert max(seen) <= 1 << 17  # a tile; there are 600,000 scores
