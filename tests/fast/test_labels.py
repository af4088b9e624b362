"""The ways through a large multi-label batch, in blocks and in a compiled loop, give what the plain operations give."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.gradients import again_and_twice
from tests.threads import on_several_threads
from torch import Tensor

import lossary
from lossary._fast import dispatch, mathematics, one_pass
from lossary.errors import InvalidIndexError
from lossary.functional import binary_cross_entropy

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
    monkeypatch.setattr(dispatch, "SMALL", 0)
    monkeypatch.setattr(dispatch, "BLOCK", 32)


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
        patch.setattr(dispatch, "SMALL", 1 << 40)
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


def compiled_and_plain(monkeypatch: pytest.MonkeyPatch, run: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
    """What the compiled loop gives, which has to be taken, and the plain operations."""
    calls: list[int] = []
    original = one_pass.in_one_pass

    def counted(*given: Any) -> Any:
        calls.append(1)
        return original(*given)

    with monkeypatch.context() as patch:
        patch.setattr("lossary._fast.labels.rule.in_one_pass", counted)
        compiled = run()
        assert calls
        patch.setattr(dispatch, "LOOPS", False)
        plain = run()
    return compiled, plain


@pytest.mark.parametrize(("name", "parameters"), [LOSSES[i] for i in (0, 2, 3, 5, 8, 10, 11, 12)])
def test_the_compiled_loop(monkeypatch: pytest.MonkeyPatch, name: str, parameters: dict[str, Any]) -> None:
    if "class_counts" in parameters:
        parameters = {"class_counts": torch.arange(150)}
    logits, target = draw((23, 150), 1).float(), labels((23, 150), "soft").float()
    logits[0], logits[1], target[2, :9] = 1e4, -1e4, -100.0
    weight, pos_weight = draw((23, 1), 3).abs().float(), draw((150,), 4).abs().float()
    loss = lossary.create(name, **parameters, weight=weight, pos_weight=pos_weight, label_smoothing=0.2, reduction="sum")
    found, expected = compiled_and_plain(monkeypatch, lambda: gradient(loss, logits, target))
    torch.testing.assert_close(found, expected, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("shape", [(23, 7), (23, 70), (2, 70, 3), (200,), ()])
def test_shapes_and_targets_of_the_compiled_loop(monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], reduction: str) -> None:
    loss = lossary.create("binary_cross_entropy", reduction=reduction)
    logits = draw(shape, 1).float()
    for kind in ("hard", "soft", "ignored"):
        target = labels(shape, kind).float()
        found, expected = compiled_and_plain(monkeypatch, lambda: gradient(loss, logits, target))  # noqa: B023
        torch.testing.assert_close(found, expected, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("classes", [80, 7])
def test_one_label_of_each_row_in_the_compiled_loop(monkeypatch: pytest.MonkeyPatch, classes: int) -> None:
    logits = draw((23, classes), 1).float()
    target = torch.arange(23) * 31 % (classes + 1)
    target[0] = classes  # none
    frequency = torch.linspace(0, 1, classes)
    for parameters in ({}, {"class_frequency": frequency, "frequency_threshold": 0.4, "generator": torch.Generator()}):

        def run(parameters: dict[str, Any] = parameters) -> Tensor:
            torch.Generator.manual_seed(parameters.get("generator", torch.Generator()), 5)
            return gradient(lossary.create("gumbel_optimized", **parameters), logits, target)

        found, expected = compiled_and_plain(monkeypatch, run)
        torch.testing.assert_close(found, expected, rtol=2e-5, atol=1e-6)
    target[5] = classes + 1
    with pytest.raises(InvalidIndexError, match=rf"target must be class indices from 0 to {classes}, got {classes + 1} at \(5,\)"):
        lossary.create("gumbel_optimized")(logits, target)


def test_the_compiled_loop_keeps_what_is_not_a_number_and_what_is_ignored_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, target = draw((4, 100), 1).float(), labels((4, 100), "hard").float()
    target[1, 5], target[2] = -100.0, -100.0
    loss = lossary.create("binary_cross_entropy", reduction="sum")
    _, expected = compiled_and_plain(monkeypatch, lambda: gradient(loss, logits, target))
    logits[0, 3], logits[1, 5] = torch.nan, torch.nan
    found, _ = compiled_and_plain(monkeypatch, lambda: gradient(loss, logits, target))
    assert found.isnan().nonzero().flatten().tolist() == [0, 4]  # the sum, and the slope of the one that counts
    expected[0], expected[4] = torch.nan, torch.nan
    torch.testing.assert_close(found, expected, equal_nan=True, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.int64, torch.bool])
def test_the_gradient_of_the_compiled_loop_can_be_asked_for_again(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    leaf, target = draw((3, 70), 1).float().requires_grad_(), labels((3, 70), "hard").to(dtype)

    def loss() -> Tensor:
        return binary_cross_entropy(leaf, target)

    found, expected = compiled_and_plain(monkeypatch, lambda: again_and_twice(loss, leaf))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


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


def test_the_compiled_loop_on_several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, target = draw((23, 150), 1).float(), labels((23, 150), "ignored").float()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(mathematics, "THREADED", 100)
    used = on_several_threads(monkeypatch)
    loss = lossary.create("sigmoid_focal", weight=draw((23, 1), 3).abs().float())
    found, expected = compiled_and_plain(monkeypatch, lambda: gradient(loss, logits, target))
    torch.testing.assert_close(found, expected, rtol=2e-5, atol=1e-6)
    assert used == [3]
