"""What the tests of ranking losses share: lists with padding anywhere, and one loss against a loop over its lists."""

from collections.abc import Callable, Iterator
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from lossary._fast.lists import rule as lists_rule

PerList = Callable[[Tensor, Tensor], Tensor]  # real scores (n,), real relevance (n,) -> the list's loss


def drawn(lists: int, items: int, *, seed: int = 0, scale: float = 1.0, ties: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Scores and relevance in float64, and a mask; what is padded is not even a number. Every list has a relevant item."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(lists, items, generator=generator, dtype=torch.float64)
    if ties:
        scores = (2 * scores).round() / 2
    relevance = torch.randint(4, (lists, items), generator=generator).double()
    mask = torch.rand(lists, items, generator=generator) < 0.7
    mask[:, 1:3], relevance[:, 1], relevance[:, 2] = True, 3.0, 0.0
    return (scale * scores).masked_fill(~mask, torch.nan), relevance.masked_fill(~mask, torch.nan), mask


def expected(of_list: PerList, scores: Tensor, relevance: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The loss of each list and the gradient of their sum, by autograd through the oracle, list by list without its padding."""
    leaf = scores.double().clone().requires_grad_()
    values = torch.stack([of_list(s[m], r[m]) for s, r, m in zip(leaf, relevance.double(), mask, strict=True)])
    return values.detach(), torch.autograd.grad(values.sum(), leaf)[0]


def actual(loss: nn.Module, scores: Tensor, *others: Tensor) -> tuple[Tensor, Tensor]:
    """The same of a loss without a reduction."""
    leaf = scores.clone().requires_grad_()
    values = cast("Tensor", loss(leaf, *others))
    return values.detach(), torch.autograd.grad(values.sum(), leaf)[0]


def ways(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, torch.dtype, float]]:
    """Each way in which a batch can be computed, with the tolerance of its numbers."""
    for name, small, block, dtype, tolerance in (
        ("plain operations", 1 << 40, 1 << 16, torch.float64, 1e-9),
        ("blocks of lists", 0, 300, torch.float64, 1e-9),
        ("compiled loops", 0, 300, torch.float32, 2e-5),
    ):
        monkeypatch.setattr(lists_rule, "SMALL", small)
        monkeypatch.setattr(lists_rule, "BLOCK", block)
        yield name, dtype, tolerance


def check_against(
    loss: nn.Module, of_list: PerList, monkeypatch: pytest.MonkeyPatch, *, scale: float = 1.0, ties: bool = False
) -> None:
    """Value and gradient of every way equal the oracle's."""
    scores, relevance, mask = drawn(5, 11, scale=scale, ties=ties)
    for name, dtype, tolerance in ways(monkeypatch):
        in_dtype = scores.to(dtype)
        value, gradient = actual(loss, in_dtype, relevance, mask)
        true_value, true_gradient = expected(of_list, in_dtype, relevance, mask)
        for found, true in ((value, true_value), (gradient, true_gradient)):
            torch.testing.assert_close(found.double(), true, rtol=tolerance, atol=tolerance, msg=f"{name}: {found} and {true}")
