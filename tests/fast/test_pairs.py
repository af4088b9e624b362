"""Losses of pairs in blocks: the same numbers and gradients as on the whole matrix, in the memory of a block."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lossary._fast.pairs import rule as pairs_rule
from lossary._fast.pairs.rule import Kernel, Pairs, log_sum_exp, over_rows, sum_over_rows, unit


@pytest.fixture
def tiny_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of three anchors, also for few pairs."""
    monkeypatch.setattr(pairs_rule, "SMALL", 0)
    monkeypatch.setattr(pairs_rule, "BLOCK", 1)
    monkeypatch.setattr(pairs_rule, "FEWEST_ANCHORS", 3)


def row(s: Tensor, pairs: Pairs, scale: Tensor) -> tuple[Tensor, ...]:
    """A number of positives against negatives, and one of the anchor's own item and a side of the items."""
    negatives = log_sum_exp(s * scale, pairs.negative)
    positives = torch.where(pairs.positive, s * scale, 0.0).sum(1)
    return positives - negatives, (s * pairs.item_sides[0]).sum(1) * pairs.at_own(s) * pairs.anchor_sides[0]


def by_loops(x: Tensor, y: Tensor, labels: Tensor, scale: Tensor, side: Tensor) -> tuple[Tensor, Tensor]:
    first, second = [], []
    for i in range(len(x)):
        s = [x[i] @ other for other in y]
        negatives = torch.stack([scale * s[j] for j in range(len(y)) if labels[j] != labels[i]]).exp().sum().log()
        positives = sum((scale * s[j] for j in range(len(y)) if labels[j] == labels[i] and j != i), x.new_zeros(()))
        first.append(positives - negatives)
        second.append(sum(s[j] * side[j] for j in range(len(y))) * s[i] * side[i])
    return torch.stack(first), torch.stack(second)


def inputs(n: int = 13, dim: int = 4) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(n, dim, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(2))
    scale = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    return x, y, torch.arange(n) % 3, scale, torch.rand(n, dtype=torch.float64, generator=generator)


@pytest.mark.usefixtures("tiny_blocks")
@pytest.mark.parametrize("paired", [False, True])
def test_numbers_of_anchors_and_their_gradients_equal_loops(paired: bool) -> None:
    x, y, labels, scale, side = inputs()
    by = (x, y, scale) if paired else (x, scale)
    weight = torch.linspace(-1, 1, len(x), dtype=torch.float64)
    items = y if paired else None
    found = over_rows(row, x, items, labels=labels, anchor_sides=[side], item_sides=[side], parameters=[scale])
    expected = by_loops(x, y if paired else x, labels, scale, side)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad((weight * (first + 2 * second)).sum(), by) for first, second in (found, expected)]
    torch.testing.assert_close(*gradients)


@pytest.mark.usefixtures("tiny_blocks")
@pytest.mark.parametrize("paired", [False, True])
def test_sums_and_the_gradient_of_the_first_equal_loops(paired: bool) -> None:
    x, y, labels, scale, side = inputs()
    by = (x, y, scale) if paired else (x, scale)
    items = y if paired else None
    first, second = sum_over_rows(row, x, items, labels=labels, anchor_sides=[side], item_sides=[side], parameters=[scale])
    expected = by_loops(x, y if paired else x, labels, scale, side)
    torch.testing.assert_close((first, second), (expected[0].sum(), expected[1].sum()))
    assert not second.requires_grad
    torch.testing.assert_close(torch.autograd.grad(3 * first, by), torch.autograd.grad(3 * expected[0].sum(), by))


@pytest.mark.usefixtures("tiny_blocks")
@pytest.mark.parametrize("function", [over_rows, sum_over_rows])
def test_second_derivatives_equal_those_of_loops(function: object) -> None:
    x, _, labels, scale, side = inputs(8)
    assert callable(function)
    first = function(row, x, labels=labels, anchor_sides=[side], item_sides=[side], parameters=[scale])[0].sum()
    expected = by_loops(x, x, labels, scale, side)[0].sum()
    twice = []
    for value in (first, expected):
        (gradient,) = torch.autograd.grad(value.square(), x, create_graph=True)
        twice.append(torch.autograd.grad(gradient.square().sum(), (x, scale)))
    torch.testing.assert_close(*twice)


@pytest.mark.usefixtures("tiny_blocks")
@pytest.mark.parametrize("function", [over_rows, sum_over_rows])
def test_side_by_side_runs_equal_runs_alone(function: object) -> None:
    assert callable(function)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, 9, 4, dtype=torch.float64, generator=generator)
    labels = torch.randint(3, (3, 9), generator=generator)
    scale, side = torch.tensor(1.5, dtype=torch.float64), torch.ones(9, dtype=torch.float64)

    def loss(x: Tensor, labels: Tensor) -> Tensor:
        return function(row, x, labels=labels, anchor_sides=[side], item_sides=[side], parameters=[scale])[0].sum()  # type: ignore[no-any-return]

    gradient, value = torch.func.vmap(torch.func.grad_and_value(loss))(x, labels)
    for run in range(3):
        alone = x[run].clone().requires_grad_()
        torch.testing.assert_close(value[run], loss(alone, labels[run]).detach())
        torch.testing.assert_close(gradient[run], torch.autograd.grad(loss(alone, labels[run]), alone)[0])


@pytest.mark.usefixtures("tiny_blocks")
@pytest.mark.parametrize("function", [over_rows, sum_over_rows])
def test_side_by_side_runs_differentiated_from_outside_equal_runs_alone(function: object) -> None:
    """As many small trainings are one program: a tensor that vmap has wrapped says that it wants no gradient."""
    assert callable(function)
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(3, 9, 4, dtype=torch.float64, generator=generator).requires_grad_()
    scale = torch.rand(3, dtype=torch.float64, generator=generator).requires_grad_()
    labels, side = torch.randint(3, (3, 9), generator=generator), torch.ones(9, dtype=torch.float64)

    def loss(x: Tensor, labels: Tensor, scale: Tensor) -> Tensor:
        return function(row, 2 * x, labels=labels, anchor_sides=[side], item_sides=[side], parameters=[scale])[0].sum()  # type: ignore[no-any-return]

    together = torch.autograd.grad(torch.func.vmap(loss)(x, labels, scale).square().sum(), (x, scale))
    alone = torch.stack([loss(*one) for one in zip(x, labels, scale, strict=True)])
    torch.testing.assert_close(together, torch.autograd.grad(alone.square().sum(), (x, scale)))


@pytest.mark.usefixtures("tiny_blocks")
def test_only_what_is_wanted_has_a_gradient() -> None:
    x, y, labels, scale, side = inputs()
    for function in (over_rows, sum_over_rows):
        sides = {"anchor_sides": [side], "item_sides": [side], "parameters": [scale.detach()]}
        total = function(row, x.detach(), y, labels=labels, **sides)[0].sum()  # type: ignore[arg-type]
        expected = by_loops(x, y, labels, scale, side)[0].sum()
        torch.testing.assert_close(torch.autograd.grad(total, y), torch.autograd.grad(expected, y))


def test_log_sum_exp_of_nothing_is_minus_infinity_without_a_gradient() -> None:
    s = torch.tensor([[1000.0, 1001.0, 5.0], [1.0, 2.0, 3.0]], requires_grad=True)
    found = log_sum_exp(s, torch.tensor([[True, True, False], [False, False, False]]))
    torch.testing.assert_close(found, torch.tensor([1001 + math.log1p(math.exp(-1)), -math.inf]))
    torch.logaddexp(found, torch.zeros(2)).sum().backward()
    assert s.grad is not None
    torch.testing.assert_close(s.grad[0], torch.tensor([1 / (1 + math.e), math.e / (1 + math.e), 0.0]))
    assert s.grad[1].tolist() == [0.0, 0.0, 0.0]


def test_unit_rows_have_length_one_and_zeros_a_finite_gradient() -> None:
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    torch.testing.assert_close(unit(x), torch.tensor([[0.6, 0.8], [0.0, 0.0]]))
    unit(x).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
def test_memory_does_not_grow_with_the_square_of_the_batch() -> None:
    # In a process of its own, whose peak nobody else has raised: the matrix of this batch alone would take 256 MiB. What getrusage
    # says of such a process is at least what this one holds.
    code = """
import pathlib, torch
from lossary._fast.pairs.rule import sum_over_rows
torch.set_num_threads(1)
x = torch.randn(8192, 8, requires_grad=True)
def peak(): return int(pathlib.Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
def row(s, pairs): return (s.relu().sum(1),)
sum_over_rows(row, x[:1024], labels=torch.zeros(1024, dtype=torch.long))[0].backward()
before = peak()
sum_over_rows(row, x)[0].backward()
print(peak() - before)
"""
    grown = float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert grown < 32  # MiB


@pytest.mark.parametrize("anchors", [7, 40])
@pytest.mark.parametrize("function", [over_rows, sum_over_rows])
def test_compiled_loops_give_each_anchor_its_own_number_and_gradient(
    monkeypatch: pytest.MonkeyPatch, function: object, anchors: int
) -> None:
    """In blocks, and in one block, where both sides of the similarities are one product."""
    from lossary._fast.pairs import loops as pairs_loops

    assert callable(function)
    monkeypatch.setattr(pairs_rule, "SMALL", 0)
    monkeypatch.setattr(pairs_rule, "BLOCK", 1)
    monkeypatch.setattr(pairs_rule, "FEWEST_ANCHORS", anchors)
    generator = torch.Generator().manual_seed(3)
    x, labels = unit(torch.randn(40, 6, generator=generator)), torch.randint(9, (40,), generator=generator)
    weight = torch.rand(40, generator=generator)
    kernel = Kernel(lambda: pairs_loops.sup_con, 2, (0.5,))
    leaf = x.clone().requires_grad_()
    found = function(row, leaf, labels=labels, kernel=kernel)[0]
    expected = torch.stack(
        [
            (leaf[i] @ torch.cat([leaf[:i], leaf[i + 1 :]]).T / 0.5).logsumexp(0)
            - torch.stack([leaf[i] @ leaf[j] / 0.5 for j in range(40) if j != i and labels[j] == labels[i]]).mean()
            if (labels == labels[i]).sum() > 1
            else leaf[i].sum() * 0
            for i in range(40)
        ]
    )
    if function is sum_over_rows:
        expected, weight = expected.sum(), torch.tensor(1.0)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    slopes = [torch.autograd.grad((weight * each).sum(), leaf)[0] for each in (found, expected)]
    torch.testing.assert_close(*slopes, rtol=1e-4, atol=1e-4)


def test_one_block_takes_derivatives_that_autograd_has_not_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs_rule, "SMALL", 0)
    x = torch.arange(12.0).view(4, 3).requires_grad_()
    total = sum_over_rows(lambda s, pairs: (s.sum(1),), x)[0]
    torch.testing.assert_close(torch.autograd.grad(total, x)[0], 2 * x.detach().sum(0).expand(4, 3))


def test_a_row_without_a_compiled_loop_takes_whole_what_is_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks would be swept once for each run of a comparison, and by a graph of their own."""
    whole, taken = pairs_rule._whole, []

    def counted(*given: Any) -> tuple[torch.Tensor, ...]:
        taken.append(given[1].shape)
        return whole(*given)

    monkeypatch.setattr(pairs_rule, "_whole", counted)
    sum_over_rows(lambda s, pairs: (s.relu().sum(1),), torch.randn(720, 2), torch.randn(720, 2))
    sum_over_rows(lambda s, pairs: (s.relu().sum(1),), torch.randn(740, 2), torch.randn(720, 2))
    assert taken == [(720, 2)]
