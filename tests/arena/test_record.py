"""A recorded computation gives, on whatever is put into its inputs, what the function itself gives there."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import vmap

from lossary._fast import dispatch
from lossary.arena.train.record import Recording

Function = Callable[[Tensor, Tensor], Sequence[Tensor]]


def gradients(x: Tensor, w: Tensor) -> list[Tensor]:
    """What training records: a loss under vmap, and its gradient."""

    def loss(rows: Tensor, weight: Tensor) -> Tensor:
        hidden = torch.relu(torch.nn.functional.linear(rows, weight, weight[:, 0]))
        return -(-hidden.log_softmax(1)).logsumexp(0).sum()

    with torch.enable_grad():
        leaf = w.detach().requires_grad_()
        losses = vmap(loss)(x, leaf)
        (gradient,) = torch.autograd.grad(losses.sum(), leaf)
    return [losses.detach(), gradient]


def in_place(x: Tensor, w: Tensor) -> list[Tensor]:
    total = torch.zeros(4, 3)
    for row in x[0]:
        total += row[:3]
    total[0].mul_(2.0)
    return [total, total.t() + w[0, :3, :4]]


def several(x: Tensor, w: Tensor) -> list[Tensor]:
    values, places = x.sort(dim=2)
    return [values, places, torch.cat([x.amax(2), w.flatten(1)], 1), x.flip(1).cumsum(1), x.max(1).values]


def by_number(x: Tensor, w: Tensor) -> list[Tensor]:
    return [x[:, torch.tensor([2, 0, 2])], torch.where(x > 0, x, w.mean()), torch.full_like(x, 3.0) * w.mean()]


def passed_on(x: Tensor, w: Tensor) -> list[Tensor]:
    """Outputs that are inputs, constants, views, or each other."""
    doubled = x * 2
    return [x, torch.ones(3), doubled, doubled.transpose(1, 2), w[0]]


class Loop(torch.autograd.Function):
    """The square and its slope, computed where no tensor operation is seen."""

    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        made: tuple[Tensor, Tensor] = dispatch.call_compiled(squared, x)
        return made

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(output[1])
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, _: Tensor) -> Tensor:
        slope: Tensor = ctx.saved_tensors[0]
        return slope * upstream

    @staticmethod
    def vmap(info: Any, dims: tuple[int | None, ...], x: Tensor) -> Any:
        return Loop.apply(x), (0, 0)  # type: ignore[no-untyped-call]


def squared(x: Tensor) -> tuple[Tensor, Tensor]:
    value, slope = torch.empty_like(x), torch.empty_like(x)
    value.numpy()[:] = np.square(x.numpy())
    slope.numpy()[:] = 2 * x.numpy()
    return value, slope


def compiled(x: Tensor, w: Tensor) -> list[Tensor]:
    """A loop that no operation shows, differentiated and followed by what depends on it."""
    with torch.enable_grad():
        leaf = w.detach().requires_grad_()
        value = vmap(lambda rows, weight: Loop.apply(rows @ weight)[0].sum())(x, leaf)  # type: ignore[no-untyped-call]
        (gradient,) = torch.autograd.grad((value**2).sum(), leaf)
    return [value.detach(), gradient]


def draw() -> tuple[Tensor, Tensor]:
    return torch.randn(2, 5, 4), torch.randn(2, 4, 4)


@pytest.mark.parametrize("function", [compiled, gradients, in_place, several, by_number, passed_on])
def test_a_repetition_gives_the_same_bits(function: Function) -> None:
    torch.manual_seed(0)
    x, w = draw()
    recording = Recording(lambda: function(x, w), [x, w])
    for _ in range(3):
        for part, fresh in zip((x, w), draw(), strict=True):
            part.copy_(fresh)
        with torch.no_grad():
            recording.repeat()
        for found, wanted in zip(recording.outputs, function(x, w), strict=True):
            assert torch.equal(found, wanted)
            assert found.stride() == wanted.stride()
            assert not found.requires_grad


def test_what_is_not_needed_or_never_changes_is_not_done_again() -> None:
    x, w = draw()

    def function() -> list[Tensor]:
        table = torch.arange(4.0).exp()  # the same each time
        (x.sum() * 7).sqrt()  # leads nowhere
        return [x.transpose(1, 2).unsqueeze(0).detach() + table[0]]

    assert len(Recording(function, [x, w])._calls) == 1


def test_random_numbers_are_drawn_anew() -> None:
    x, _ = draw()
    recording = Recording(lambda: [torch.nn.functional.dropout(x, 0.5), torch.rand(8)], [x])
    seen = []
    for _ in range(3):
        recording.repeat()
        seen.append(torch.cat([output.flatten() for output in recording.outputs]))
    assert not torch.equal(seen[0], seen[1])
    torch.manual_seed(5)
    recording.repeat()
    torch.manual_seed(5)
    assert torch.equal(recording.outputs[0], torch.nn.functional.dropout(x, 0.5))
    assert torch.equal(recording.outputs[1], torch.rand(8))


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x: [x * x.sum().item()], "looks at values"),
        (lambda x: [x * 2 if x.sum() > 0 else x], "looks at values"),
        (lambda x: [x[x > 0]], "looks at values"),
        (lambda x: [x.nonzero()], "looks at values"),
        (lambda x: [x.add_(1.0)], "running statistics"),
        (lambda x: [x.sin().neg().neg().add_(1.0)], "in place"),
        (lambda x: [torch.ops.aten.mul.Scalar(x + 1, 1).add_(1.0)], "in place"),
    ],
)
def test_what_cannot_be_repeated_is_refused(function: Callable[[Tensor], Sequence[Tensor]], reason: str) -> None:
    x = torch.rand(5)
    with pytest.raises((ValueError, RuntimeError), match=reason):
        Recording(lambda: function(x), [x])
