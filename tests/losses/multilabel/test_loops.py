"""Losses of a batch of labels: their compiled loops give what plain operations give in double precision."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lossary.losses.multilabel.ensloss import ensloss
from lossary.losses.multilabel.normalized_logistic import normalized_logistic

GENERATOR = torch.Generator().manual_seed(0)
NOISE = torch.randn(700, 9, generator=GENERATOR)
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "normalized_logistic": lambda z, y: normalized_logistic(z, y),
    "normalized_logistic, sum": lambda z, y: normalized_logistic(z, y, ignore_index=2, reduction="sum"),
    "ensloss": lambda z, y: ensloss(z, y, NOISE[: len(z)]),
    "ensloss, lambda 0.5": lambda z, y: ensloss(z, y, NOISE[: len(z)], box_cox=0.5, reduction="sum"),
    "ensloss, lambda -1": lambda z, y: ensloss(z, y, NOISE[: len(z)], box_cox=-1.0),
}


def both(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    leaf = logits.clone().requires_grad_()
    value = loss(leaf, target)
    return value.detach().double(), torch.autograd.grad(value, leaf)[0].double()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("kind", ["hard", "soft", "bool", "ties", "separated", "wrong", "masked", "half"])
@pytest.mark.parametrize("rows", [3, 700])
def test_loops_give_what_plain_operations_give(name: str, kind: str, rows: int) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = 3 * torch.randn(rows, 9, generator=generator)
    target = torch.randint(2, (rows, 9), generator=generator).float()
    if kind == "soft":
        target = torch.rand(rows, 9, generator=generator)
    elif kind == "bool":
        target = target.bool()
    elif kind == "ties":
        logits = logits.round() * 0.0
    elif kind in ("separated", "wrong"):
        logits = (200 if kind == "separated" else -200) * (2 * target - 1) + logits
    elif kind == "masked":
        logits[:, 2:4] = -torch.inf
        if name == "normalized_logistic, sum":
            target[:, 5] = 2.0  # is ignored
    elif kind == "half":
        target = target.half()
    found, expected = both(LOSSES[name], logits, target), both(LOSSES[name], logits.double(), target)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-4, atol=1e-6 * max(1.0, float(other.abs().max())))


@pytest.mark.parametrize("name", LOSSES)
def test_second_derivatives_and_other_layouts(name: str) -> None:
    logits, target = torch.randn(9, 40, generator=GENERATOR).T[:, :9], torch.rand(40, 9, generator=GENERATOR).round()
    assert not logits.is_contiguous()
    found, expected = both(LOSSES[name], logits, target), both(LOSSES[name], logits.contiguous(), target)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
    bent = []
    for dtype in (torch.float32, torch.float64):
        leaf = logits.to(dtype).requires_grad_()
        (first,) = torch.autograd.grad(LOSSES[name](leaf, target), leaf, create_graph=True)
        second = torch.autograd.grad(first.square().sum(), leaf, allow_unused=True)[0] if first.requires_grad else None
        bent.append(torch.zeros_like(first) if second is None else second)
    torch.testing.assert_close(bent[0].double(), bent[1].double(), rtol=1e-3, atol=1e-5)
