"""Losses of classes with loops of their own: they give what plain operations give in double precision."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lossary.errors import InvalidIndexError
from lossary.losses.classification.set_dice import set_dice
from lossary.losses.classification.smooth_adversarial_comp_sum import smooth_adversarial_comp_sum


def both(loss: Callable[..., Tensor], *leaves: Tensor) -> list[Tensor]:
    """The value and the gradients, in double precision."""
    given = [leaf.clone().requires_grad_() for leaf in leaves]
    value = loss(*given)
    return [value.detach().double(), *(gradient.double() for gradient in torch.autograd.grad(value, given))]


def agree(loss: Callable[..., Tensor], *leaves: Tensor) -> None:
    found, expected = both(loss, *leaves), both(loss, *(leaf.double() for leaf in leaves))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=2e-6 * max(float(other.abs().max()), 1e-6))


def drawn(shape: tuple[int, ...], scale: float = 3.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = scale * torch.randn(shape, generator=generator)
    return logits, torch.randint(shape[1] - 1, (shape[0], *shape[2:]), generator=generator)  # the last class is absent


@pytest.mark.parametrize("shape", [(2, 3), (70, 5), (300, 40), (2, 3, 7), (3, 4, 33, 40), (2, 5, 4, 9, 3)])
@pytest.mark.parametrize(
    "numbers", [{}, {"power": 1.0}, {"power": 1.5}, {"smooth": 0.0}, {"smooth": 0.0, "power": 3.0, "reduction": "sum"}]
)
def test_set_dice(shape: tuple[int, ...], numbers: dict[str, Any]) -> None:
    logits, target = drawn(shape)
    agree(lambda z: set_dice(z, target, **numbers), logits)
    ignored = target.clone().view(-1)
    ignored[::3] = -100
    spoilt = logits.clone().movedim(1, -1).reshape(-1, shape[1])
    spoilt[::3] = torch.nan
    spoilt = spoilt.view(shape[0], *shape[2:], shape[1]).movedim(-1, 1)
    agree(lambda z: set_dice(z, ignored.view_as(target), **numbers), spoilt)
    masked = logits.clone()
    masked[:, -1] = -torch.inf
    agree(lambda z: set_dice(z, target, **numbers), masked)
    nothing = both(lambda z: set_dice(z, torch.full_like(target, -100), **numbers), logits)
    assert not any(part.any() for part in nothing)


@pytest.mark.parametrize("shape", [(40, 5), (2, 5, 30)])
def test_a_small_set_dice_keeps_its_digits(shape: tuple[int, ...]) -> None:
    logits, target = drawn(shape, 0.1)
    logits = logits + 9 * torch.nn.functional.one_hot(target, shape[1]).movedim(-1, 1)
    value = set_dice(logits, target)
    assert value < 1e-4
    torch.testing.assert_close(value.double(), set_dice(logits.double(), target), rtol=1e-4, atol=0.0)


@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 5)])
def test_set_dice_is_differentiable_twice_and_refuses_classes_that_do_not_exist(shape: tuple[int, ...]) -> None:
    logits, target = drawn(shape)
    found = []
    for dtype in (torch.float32, torch.float64):
        leaf = logits.to(dtype).requires_grad_()
        (first,) = torch.autograd.grad(set_dice(leaf, target), leaf, create_graph=True)
        found.append(torch.autograd.grad(first.square().sum(), leaf)[0].double())
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-6)
    target.view(-1)[1] = shape[1]
    with pytest.raises(InvalidIndexError, match="set_dice: target must"):
        set_dice(logits, target)


@pytest.mark.parametrize("rows", [3, 400])
@pytest.mark.parametrize("numbers", [{}, {"tau": 0.0, "rho": 2.0}, {"tau": 1.5, "nu": 0.3, "reduction": "sum"}, {"weight": True}])
def test_smooth_adversarial_comp_sum(rows: int, numbers: dict[str, Any]) -> None:
    logits, target = drawn((rows, 6))
    moved = logits + torch.randn(logits.shape, generator=torch.Generator().manual_seed(1))
    moved[1] = logits[1]  # is not moved at all
    given = {**numbers, **({"weight": torch.tensor([1.0, 2.0, 0.5, 1.0, 3.0, 1.0])} if "weight" in numbers else {})}
    agree(lambda z, a: smooth_adversarial_comp_sum(z, target, a, **given), logits, moved)
    target[::2] = -100
    agree(lambda z, a: smooth_adversarial_comp_sum(z, target, a, **given), logits, moved)
    hidden, hidden_moved = logits.clone(), moved.clone()
    hidden[:, -1], hidden_moved[:, -1] = -torch.inf, -torch.inf
    agree(lambda z, a: smooth_adversarial_comp_sum(z, target, a, **given), hidden, hidden_moved)
