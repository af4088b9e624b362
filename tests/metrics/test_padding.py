"""Padding of ranked lists: without a mask it is what has a negative relevance, in the arena's metrics too."""

import pytest
import torch
from torch import Tensor

from lossary.arena.tasks import METRICS
from lossary.metrics import mean_reciprocal_rank, ndcg_at_k


@pytest.fixture
def padded() -> tuple[Tensor, Tensor, Tensor]:
    """Scores and relevance (lists, items) with a mask; each third item is padding, often with the highest score."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(6, 9, generator=generator)
    relevance = torch.randint(4, (6, 9), generator=generator)
    mask = torch.arange(9) % 3 != torch.arange(6).unsqueeze(1) % 3
    return scores, relevance, mask


@pytest.mark.parametrize("metric", [ndcg_at_k, mean_reciprocal_rank])
@pytest.mark.parametrize("k", [2, None])
def test_without_a_mask_items_of_negative_relevance_are_padding(padded: tuple[Tensor, Tensor, Tensor], metric, k) -> None:  # type: ignore[no-untyped-def]
    scores, relevance, mask = padded
    expected = [metric(s[m][None], r[m][None], k).item() for s, r, m in zip(scores, relevance, mask, strict=True)]
    grades = relevance.masked_fill(~mask, -1)
    for hidden in (100.0, torch.nan):
        found = metric(scores.masked_fill(~mask, hidden), grades, k, reduction="none")
        torch.testing.assert_close(found, scores.new_tensor(expected))


@pytest.mark.parametrize(("name", "metric"), [("ndcg", ndcg_at_k), ("mean_reciprocal_rank", mean_reciprocal_rank)])
def test_the_arena_leaves_padding_out(padded: tuple[Tensor, Tensor, Tensor], name: str, metric) -> None:  # type: ignore[no-untyped-def]
    scores, relevance, mask = padded
    truth = relevance.double().masked_fill(~mask, -1.0)
    assert METRICS[name](truth.numpy(), scores.masked_fill(~mask, 100.0).numpy()) == pytest.approx(
        metric(scores, relevance, mask=mask).item()
    )


def test_a_mask_has_the_last_word(padded: tuple[Tensor, Tensor, Tensor]) -> None:
    scores, relevance, _ = padded
    everything = torch.ones_like(relevance, dtype=torch.bool)
    shifted = ndcg_at_k(scores, relevance - 1, mask=everything, exponential_gain=False)
    assert shifted != ndcg_at_k(scores, relevance - 1, exponential_gain=False)
