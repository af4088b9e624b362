"""What the tests of paired losses share: two views that fit, and what a loss and its gradients are."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def views(n: int, width: int = 8, dtype: torch.dtype = torch.float64, noise: float = 0.7) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n)
    a, b = (torch.randn(n, width, generator=generator, dtype=torch.float64) for _ in range(2))
    return a.to(dtype).requires_grad_(), (a + noise * b).to(dtype).requires_grad_()


def value_and_gradients(loss: Callable[..., Tensor], inputs: Sequence[Tensor], parameters: Sequence[Tensor] = ()) -> list[Tensor]:
    """The loss and its gradients; rows that come one by one are weighed differently."""
    value = loss(*inputs)
    weights = torch.linspace(0.5, 1.5, max(value.numel(), 1), dtype=value.dtype).view(value.shape)
    return [value.detach(), *torch.autograd.grad((value * weights).sum(), [*inputs, *parameters])]


def agree(found: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float = 1e-9) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance * float(other.abs().max()))
