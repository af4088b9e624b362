"""What is true of every loss of rows of labels, however it is computed."""

from typing import cast

import pytest
import torch
from torch import Tensor
from torch.func import grad, hessian, jvp

import lossary
from lossary._fast.lists import rule as lists_rule

NAMES = ("decoupled_softmax", "soft_topk")
each = pytest.mark.parametrize("name", NAMES)


def drawn(rows: int, labels: int = 40, scale: float = 1.0, *, ties: bool = False) -> tuple[Tensor, Tensor]:
    """Logits in float64 and their targets (N, L); one row has no positive label and one has nothing else."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(rows, labels, generator=generator, dtype=torch.float64)
    logits = scale * ((2 * logits).round() / 2 if ties else logits)
    target = (torch.rand(rows, labels, generator=generator) < 0.1).double()
    target[0], target[1] = 0.0, 1.0
    return logits, target


def value_and_gradient(name: str, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    leaf = logits.clone().requires_grad_()
    value = lossary.create(name, reduction="none")(leaf, target)
    return value.detach(), torch.autograd.grad(value.sum(), leaf)[0]


@each
@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 30.0, 1e4])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("labels", [6, 40, 1000])
def test_loops_and_blocks_give_what_plain_operations_give(
    name: str, scale: float, ties: bool, labels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits, target = drawn(12, labels, scale, ties=ties)
    logits = logits.float().double()  # the same numbers in both precisions
    expected = value_and_gradient(name, logits, target)
    monkeypatch.setattr(lists_rule, "SMALL", 0)
    monkeypatch.setattr(lists_rule, "BLOCK", 5 * labels)
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 3e-5)):
        for found, true in zip(value_and_gradient(name, logits.to(dtype), target), expected, strict=True):
            torch.testing.assert_close(found.double(), true, rtol=tolerance, atol=tolerance * float(true.abs().amax()))


@pytest.mark.parametrize("k", [1, 5, 40, 499, 999])
@pytest.mark.parametrize("gap", [0.0, 50.0, 300.0, 1e4])
def test_the_loop_finds_the_threshold_for_any_k_and_gap(k: int, gap: float, monkeypatch: pytest.MonkeyPatch) -> None:
    logits, target = drawn(6, 1000)
    logits[:, ::3] += gap
    logits = logits.float().double()
    expected = torch.autograd.functional.jacobian(lambda z: lossary.functional.soft_topk(z, target, k=k), logits)
    monkeypatch.setattr(lists_rule, "SMALL", 0)
    leaf = logits.float().requires_grad_()
    value = lossary.functional.soft_topk(leaf, target, k=k)
    torch.testing.assert_close(value.double(), lossary.functional.soft_topk(logits, target, k=k), rtol=3e-5, atol=3e-5)
    found = torch.autograd.grad(value, leaf)[0].double()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=3e-5 * float(expected.abs().amax()))


@each
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")  # of torch's own forward mode
@pytest.mark.parametrize("rows", [4, 2000])  # below and above the numbers from which loops are used
def test_forward_mode_gives_the_derivative_of_backward_mode(name: str, rows: int) -> None:
    logits, target = drawn(rows)
    loss = lossary.create(name)
    along = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for dtype in (torch.float32, torch.float64):
        z, v = logits.to(dtype), along.to(dtype)
        forwards = jvp(lambda z: loss(z, target), (z,), (v,))[1]
        torch.testing.assert_close(forwards, (grad(lambda z: loss(z, target))(z) * v).sum(), rtol=1e-3, atol=1e-5)


@each
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
def test_the_hessian_is_that_of_differences(name: str) -> None:
    logits, target = drawn(3, 8)
    loss = lossary.create(name)

    def slope(z: Tensor) -> Tensor:
        return cast("Tensor", grad(lambda z: loss(z, target))(z))

    found = hessian(lambda z: loss(z, target))(logits)
    for i, j in ((1, 2), (2, 0), (2, 7)):
        step = torch.zeros_like(logits)
        step[i, j] = 1e-5
        torch.testing.assert_close(found[i, j], (slope(logits + step) - slope(logits - step)) / 2e-5, rtol=1e-4, atol=1e-7)


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [4, 2000])
def test_a_label_masked_by_minus_infinity_is_not_there(name: str, dtype: torch.dtype, rows: int) -> None:
    logits, target = drawn(rows)
    masked = logits.to(dtype).clone()
    masked[:, 20:] = -torch.inf
    value, gradient = value_and_gradient(name, masked, target)
    of_rest, gradient_of_rest = value_and_gradient(name, logits.to(dtype)[:, :20], target[:, :20])
    torch.testing.assert_close(value, of_rest, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradient[:, :20], gradient_of_rest, rtol=1e-4, atol=1e-5)
    assert not gradient[:, 20:].any()
    masked[:, 2:] = -torch.inf  # fewer are left than soft_topk shows
    value, gradient = value_and_gradient(name, masked, target)
    assert value.isfinite().all()
    assert gradient.isfinite().all()


@each
def test_a_number_that_is_none_spoils_its_row_alone(name: str) -> None:
    for rows in (4, 2000):
        logits, target = drawn(rows)
        logits[1, 3] = torch.nan
        for dtype in (torch.float32, torch.float64):
            value, gradient = value_and_gradient(name, logits.to(dtype), target)
            assert value.isnan().nonzero().flatten().tolist() == [1]
            assert gradient.isnan().any(1).nonzero().flatten().tolist() == [1]


class Named(Tensor):
    """A subclass that adds nothing."""


@each
def test_tensors_that_are_not_plain_go_through_plain_operations(name: str) -> None:
    logits, target = (x.float() for x in drawn(2000))
    value, gradient = value_and_gradient(name, logits, target)
    of_subclass, gradient_of_subclass = value_and_gradient(name, logits.as_subclass(Named), target)
    torch.testing.assert_close(of_subclass.as_subclass(Tensor), value, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradient_of_subclass.as_subclass(Tensor), gradient, rtol=1e-4, atol=1e-5)
    assert lossary.create(name)(logits.to("meta"), target.to("meta")).shape == ()


class Model(torch.nn.Module):
    """A model whose output is a loss, to be exported."""

    def __init__(self, loss: torch.nn.Module):
        super().__init__()
        self.loss = loss

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return cast("Tensor", self.loss(logits, target))


@each
def test_one_exported_graph_serves_batches_of_any_size(name: str) -> None:
    model, rows = Model(lossary.create(name)), {0: torch.export.Dim("rows")}
    logits, target = (x.float() for x in drawn(3))
    exported = torch.export.export(model, (logits, target), dynamic_shapes=(rows, rows)).module()
    for count in (2, 2000):
        given = [x.float() for x in drawn(count)]
        torch.testing.assert_close(exported(*given), model(*given), rtol=1e-4, atol=1e-5)
