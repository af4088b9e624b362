"""The blocked way through a multi-label batch gives what the plain operations give: the slopes are those of the costs."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import lossary
from lossary import _blocks

LOSSES: list[tuple[str, dict[str, Any]]] = [
    ("binary_cross_entropy", {}),
    ("sigmoid_focal", {}),
    ("sigmoid_focal", {"gamma": 0.0, "alpha": None}),
    ("sigmoid_focal", {"gamma": 0.7}),
    ("poly_focal", {}),
    ("poly_focal", {"epsilon": 2.0, "gamma": 1.3, "alpha": None}),
    ("asymmetric", {}),
    ("asymmetric", {"gamma_pos": 1.0, "gamma_neg": 2.0}),
    ("asymmetric", {"gamma_pos": 1.0, "gamma_neg": 3.0, "clip": 0.0}),
    ("asymmetric", {"gamma_pos": 2.0, "gamma_neg": 4.0, "detach_focusing": False}),
    ("asymmetric", {"gamma_pos": 0.5, "gamma_neg": 2.5, "clip": 0.0, "detach_focusing": False}),
    ("batch_perceptron", {}),
    ("ldam_multilabel", {"class_counts": torch.tensor([3.0, 40.0, 0.0, 1.0, 7.0, 200.0, 5.0])}),
]
IDS = [f"{name}-{i}" for i, (name, _) in enumerate(LOSSES)]


@pytest.fixture
def tiny_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_blocks, "SMALL", 0)
    monkeypatch.setattr(_blocks, "BLOCK", 32)


def draw(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 3


def labels(shape: tuple[int, ...], kind: str) -> Tensor:
    drawn = torch.rand(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    if kind == "soft":
        return drawn
    hard = (drawn < 0.3).double()
    return hard if kind == "hard" else hard.masked_fill(drawn > 0.8, -100.0)


def gradient(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, target: Tensor) -> Tensor:
    leaf = logits.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    value = loss(leaf, target)
    upstream = torch.linspace(0.5, 2.0, value.numel(), dtype=value.dtype).view_as(value)
    (found,) = torch.autograd.grad(value, leaf, upstream)
    return torch.cat([value.detach().flatten().double(), found.flatten().double()])


def both(monkeypatch: pytest.MonkeyPatch, run: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
    blocked = run()
    with monkeypatch.context() as patch:
        patch.setattr(_blocks, "SMALL", 1 << 40)
        return blocked, run()


@pytest.mark.usefixtures("tiny_blocks")
@pytest.mark.parametrize(("name", "parameters"), LOSSES, ids=IDS)
@pytest.mark.parametrize("kind", ["hard", "soft", "ignored"])
@pytest.mark.parametrize("rule", ["mean", "sum", "none", "weighted", "smoothed"])
def test_blocks_equal_the_plain_operations(
    monkeypatch: pytest.MonkeyPatch, name: str, parameters: dict[str, Any], kind: str, rule: str
) -> None:
    rules: dict[str, dict[str, Any]] = {
        "weighted": {"weight": draw((23, 1), 3).abs(), "pos_weight": draw((7,), 4).abs(), "reduction": "sum"},
        "smoothed": {"label_smoothing": 0.2},
    }
    loss = lossary.create(name, **parameters, **rules.get(rule, {"reduction": rule}))
    logits, target = draw((23, 7), 1), labels((23, 7), kind)
    blocked, plain = both(monkeypatch, lambda: gradient(loss, logits, target))
    torch.testing.assert_close(blocked, plain, rtol=1e-10, atol=1e-13)


@pytest.mark.usefixtures("tiny_blocks")
@pytest.mark.parametrize(("name", "parameters"), LOSSES, ids=IDS)
def test_second_derivatives_vmap_and_layout(monkeypatch: pytest.MonkeyPatch, name: str, parameters: dict[str, Any]) -> None:
    loss = lossary.create(name, **parameters)
    logits, target = draw((12, 7), 5).requires_grad_(), labels((12, 7), "ignored")
    if name != "asymmetric" or "detach_focusing" in parameters:  # else the gradient is not the derivative, by intention
        assert torch.autograd.gradcheck(lambda z: loss(z, target), (logits,))
        assert torch.autograd.gradgradcheck(lambda z: loss(z, target), (logits,))
    stack = draw((3, 10, 7), 6)
    targets = torch.stack([labels((10, 7), kind) for kind in ("hard", "soft", "hard")])
    mapped = torch.vmap(torch.func.grad(lambda z, y: loss(z, y)))(stack, targets)
    torch.testing.assert_close(
        mapped, torch.stack([gradient(loss, z, y)[1:].view(10, 7) * 2 for z, y in zip(stack, targets, strict=True)])
    )
    if name != "ldam_multilabel":
        image = draw((2, 3, 4, 5), 7).to(memory_format=torch.channels_last)
        blocked, plain = both(monkeypatch, lambda: gradient(loss, image, labels((2, 3, 4, 5), "soft")))
        torch.testing.assert_close(blocked, plain, rtol=1e-10, atol=1e-13)


@pytest.mark.usefixtures("tiny_blocks")
def test_learned_weights_and_targets_have_their_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, pos_weight = draw((23, 1), 3).abs().requires_grad_(), draw((7,), 4).abs().requires_grad_()
    target = labels((23, 7), "soft").requires_grad_()

    def run() -> Tensor:
        loss = lossary.create("sigmoid_focal", weight=weight, pos_weight=pos_weight)
        found = torch.autograd.grad(loss(draw((23, 7), 1), target), [weight, pos_weight, target])
        return torch.cat([g.flatten() for g in found])

    blocked, plain = both(monkeypatch, run)
    assert plain.any()
    torch.testing.assert_close(blocked, plain)
