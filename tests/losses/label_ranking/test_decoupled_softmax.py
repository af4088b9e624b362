"""What is true of the decoupled softmax alone; the conformance suite does the rest."""

import math
from typing import Literal

import pytest
import torch
from torch.autograd import gradgradcheck
from torch.func import grad, vmap

from lossary._fast.lists.rule import BLOCK, SMALL
from lossary.losses.label_ranking.decoupled_softmax import decoupled_softmax


def batch(rows: int = 6, labels: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(rows, labels, dtype=torch.float64, generator=generator)
    return logits, torch.randint(2, (rows, labels), generator=generator)


@pytest.mark.parametrize("positive_reduction", ["mean", "sum"])
def test_matches_a_loop_over_pairs(positive_reduction: Literal["mean", "sum"]) -> None:
    logits, target = batch()
    expected = []
    for row, labels in zip(logits.tolist(), target.tolist(), strict=True):
        positives = [v / 0.5 for v, y in zip(row, labels, strict=True) if y]
        negatives = sum(math.exp(v / 0.5) for v, y in zip(row, labels, strict=True) if not y)
        total = sum(math.log(math.exp(v) + negatives) - v for v in positives)
        expected.append(total / len(positives) if positive_reduction == "mean" else total)
    value = decoupled_softmax(logits, target, temperature=0.5, positive_reduction=positive_reduction, reduction="none")
    torch.testing.assert_close(value, logits.new_tensor(expected))


def test_one_positive_label_is_cross_entropy() -> None:
    logits, index = batch()[0].requires_grad_(), torch.tensor([0, 3, 6, 1, 2, 2])
    value = decoupled_softmax(logits, torch.nn.functional.one_hot(index, 7))
    expected = torch.nn.functional.cross_entropy(logits, index)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(torch.autograd.grad(value, logits), torch.autograd.grad(expected, logits))


def test_two_encoders_give_info_nce() -> None:
    a, b = (torch.nn.functional.normalize(batch(8, 5)[0] + i, dim=1) for i in (0, 1))
    expected = torch.nn.functional.cross_entropy(a @ b.T / 0.05, torch.arange(8))
    torch.testing.assert_close(decoupled_softmax(a @ b.T, torch.eye(8), temperature=0.05), expected)


def test_without_negatives_nothing_is_left_to_do() -> None:
    logits = torch.tensor([[1.0, -1e4, 1e4]], requires_grad=True)
    loss = decoupled_softmax(logits, torch.ones(1, 3))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_one_positive_does_not_touch_the_term_of_another() -> None:
    target = torch.tensor([[1, 1, 0, 0]])
    logits = torch.tensor([[0.5, -0.3, 0.2, 1.0]], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(decoupled_softmax(logits, target, positive_reduction="sum"), logits)
    negatives = math.exp(0.2) + math.exp(1.0)
    for place, z in ((0, 0.5), (1, -0.3)):  # each depends on itself and the negatives only
        assert gradient[0, place].item() == pytest.approx(math.exp(z) / (math.exp(z) + negatives) - 1)


def test_a_row_without_positives_is_left_out() -> None:
    logits, target = batch()
    target[2] = 0
    kept = torch.tensor([0, 1, 3, 4, 5])
    torch.testing.assert_close(decoupled_softmax(logits, target), decoupled_softmax(logits[kept], target[kept]))
    assert decoupled_softmax(logits, target, reduction="none")[2].item() == 0


def test_scores_below_any_constant_a_program_might_mask_with() -> None:
    logits = torch.tensor([[-1000.0, -1001.0, -999.0]], dtype=torch.float64)
    expected = math.log(1 + math.exp(1)) - 0  # the positive -1000 against the negative -999
    value = decoupled_softmax(logits, torch.tensor([[1, 1, 0]]), positive_reduction="sum")
    assert value.item() == pytest.approx(expected + math.log(1 + math.exp(2)))


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.float32])
def test_targets_are_relevances(dtype: torch.dtype) -> None:
    logits, target = batch()
    graded = target * 0.3 if dtype == torch.float32 else target.to(dtype)
    assert decoupled_softmax(logits, graded) == decoupled_softmax(logits, target)


def test_is_differentiable_twice() -> None:
    logits, target = batch(2, 4)
    target[0] = 1  # a row without negatives
    assert gradgradcheck(lambda z: decoupled_softmax(z, target), logits.requires_grad_())


def test_makes_nothing_of_the_size_of_label_pairs() -> None:
    """With 20000 labels a matrix of label pairs would take 1.6 GB for one row."""
    logits, target = torch.randn(2, 20_000, generator=torch.Generator().manual_seed(0)), torch.zeros(2, 20_000)
    target[:, :5000] = 1
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            made = func(*args, **(kwargs or {}))
            if isinstance(made, torch.Tensor):
                largest = max(largest, made.numel())
            return made

    with Watch():  # type: ignore[no-untyped-call]
        decoupled_softmax(logits.requires_grad_(), target).backward()
    assert largest == logits.numel()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_blocks_of_rows_give_what_plain_operations_give(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(4)
    logits = (3 * torch.randn(30, 20_000, dtype=torch.float64, generator=generator)).to(dtype)
    target = torch.rand(30, 20_000, generator=generator) < 1e-3
    target[3], target[4] = True, False  # a row without negatives, and one without positives
    assert logits.numel() > 2 * BLOCK
    leaf = logits.clone().requires_grad_()
    each = decoupled_softmax(leaf, target, temperature=0.5, reduction="none")
    upstream = torch.linspace(-1, 2, 30, dtype=torch.float64).to(each.dtype)
    (gradient,) = torch.autograd.grad(each, leaf, upstream)
    for i in range(30):  # one row alone is small
        row = logits[i : i + 1].clone().requires_grad_()
        value = decoupled_softmax(row, target[i : i + 1], temperature=0.5, reduction="none")
        torch.testing.assert_close(each[i : i + 1], value)
        (expected,) = torch.autograd.grad(value, row, upstream[i : i + 1])
        torch.testing.assert_close(
            gradient[i : i + 1], expected, rtol={torch.float16: 2e-3, torch.float32: 1e-4, torch.float64: 1e-9}[dtype], atol=1e-7
        )


def test_blocks_of_rows_are_mapped_and_differentiated_twice() -> None:
    generator = torch.Generator().manual_seed(5)
    stack = torch.randn(2, 4, 20_000, dtype=torch.float64, generator=generator)
    target = torch.rand(4, 20_000, generator=generator) < 1e-3
    assert stack[0].numel() > SMALL
    mapped = vmap(grad(decoupled_softmax), in_dims=(0, None))(stack, target)
    for logits, found in zip(stack, mapped, strict=True):
        leaf = logits.clone().requires_grad_()
        (first,) = torch.autograd.grad(decoupled_softmax(leaf, target), leaf, create_graph=True)
        torch.testing.assert_close(found, first)
        direction = torch.randn(4, 20_000, dtype=torch.float64, generator=generator)
        (second,) = torch.autograd.grad((first * direction).sum(), leaf)
        ahead, behind = (torch.func.grad(decoupled_softmax)(logits + step * direction, target) for step in (1e-5, -1e-5))
        torch.testing.assert_close(second, (ahead - behind) / 2e-5, rtol=1e-4, atol=1e-9)
