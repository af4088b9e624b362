"""Labels, classes and candidates masked by -inf: they are not there, in value and in gradient."""

from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import Tensor

from lossary import functional as F
from lossary.losses import EnsLoss

LEFT = 5  # of eight
Loss = Callable[[Tensor, Tensor, int], Tensor]  # logits, the others' random numbers (N, 8), how many columns there are


def _teacher(beside: Tensor, columns: int) -> Tensor:
    return beside[:, :LEFT] if columns == LEFT else torch.cat([beside[:, :LEFT], torch.full_like(beside[:, LEFT:], -torch.inf)], 1)


def _classes(z: Tensor) -> Tensor:
    return torch.arange(len(z)) % LEFT


def _labels(beside: Tensor, columns: int) -> Tensor:
    return (beside[:, :columns] > 0).to(beside.dtype)


def _by_index(normalize: Literal["l1", "softplus"] | None) -> Loss:
    def loss(z: Tensor, beside: Tensor, columns: int) -> Tensor:
        return F.aldr_kl(z, _classes(z), torch.arange(len(z)), z.new_full((len(z),), 0.7), normalize=normalize)[0]

    return loss


LOSSES: dict[str, Loss] = {
    "aldr_kl": _by_index(None),
    "aldr_kl, l1": _by_index("l1"),
    "aldr_kl, softplus": _by_index("softplus"),
    "anyloss": lambda z, beside, columns: F.anyloss(z, _labels(beside, columns)),
    "dual_head_kd": lambda z, beside, columns: F.dual_head_kd(z, _teacher(beside, columns), _classes(z)),
    "fairness_regularized": lambda z, beside, columns: F.fairness_regularized(z, _classes(z), torch.arange(len(z)) % 2, base="bce"),
    "ensloss, evaluated": lambda z, beside, columns: EnsLoss().eval()(z, _labels(beside, columns)),
    "knowledge_distillation": lambda z, beside, columns: F.knowledge_distillation(z, _teacher(beside, columns), _classes(z)),
    "normalized_logistic": lambda z, beside, columns: F.normalized_logistic(z, _labels(beside, columns)),
    "order_search": lambda z, beside, columns: F.order_search(z),
    "order_search, at first": lambda z, beside, columns: F.order_search(z, 0.0),
    "set_dice": lambda z, beside, columns: F.set_dice(z, _classes(z)),
    "smooth_adversarial_comp_sum": lambda z, beside, columns: F.smooth_adversarial_comp_sum(
        z, _classes(z), _teacher(beside, columns)
    ),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [6, 12_000])  # below and above the numbers from which loops and blocks are used
def test_what_is_masked_is_not_there(name: str, dtype: torch.dtype, rows: int) -> None:
    generator = torch.Generator().manual_seed(0)
    logits, beside = (torch.randn(rows, 8, generator=generator, dtype=torch.float64).to(dtype) for _ in range(2))
    found = []
    for columns in (LEFT, 8):
        leaf = logits[:, :columns].clone()
        leaf[:, LEFT:] = -torch.inf
        leaf.requires_grad_()
        value = LOSSES[name](leaf, beside, columns)
        found.append((value.detach(), torch.autograd.grad(value, leaf)[0]))
    (value, gradient), (of_masked, gradient_of_masked) = found
    torch.testing.assert_close(of_masked, value, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient_of_masked[:, :LEFT], gradient, rtol=1e-4, atol=1e-6)
    assert not gradient_of_masked[:, LEFT:].any()


@pytest.mark.parametrize("name", ["ensloss", "black_box_quadratic"])
def test_random_losses_are_finite_where_something_is_masked(name: str) -> None:
    logits = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))
    target = (logits > 0).float() if name == "ensloss" else _classes(logits)
    logits[:, LEFT:] = -torch.inf
    logits.requires_grad_()
    value = getattr(F, name)(logits, target)
    value.backward()
    assert value.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert not logits.grad[:, LEFT:].any()
