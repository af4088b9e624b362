"""ApproxNDCG against a loop over items, and against NDCG itself."""

import math

import pytest
import torch
from tests.losses.ranking._lists import check_against, drawn
from torch import Tensor

from lossary.losses.ranking import ApproxNDCGLoss
from lossary.metrics import ndcg_at_k


@pytest.mark.parametrize("exponential_gain", [True, False])
@pytest.mark.parametrize("ties", [False, True])
def test_matches_a_loop(exponential_gain: bool, ties: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def of_list(s: Tensor, y: Tensor) -> Tensor:
        gain = [2 ** float(v) - 1 if exponential_gain else float(v) for v in y]
        ideal = sum(g / math.log2(place + 2) for place, g in enumerate(sorted(gain, reverse=True)))
        total = s.sum() * 0
        for i in range(len(s)):
            rank = sum((1 / (1 + torch.exp(3 * (s[i] - s[j]))) for j in range(len(s)) if j != i), start=torch.ones(()).double())
            total = total - gain[i] / ideal / torch.log2(1 + rank)
        return total

    check_against(ApproxNDCGLoss(alpha=3.0, exponential_gain=exponential_gain, reduction="none"), of_list, monkeypatch, ties=ties)


def test_sharp_counts_give_ndcg() -> None:
    scores, relevance, mask = drawn(5, 9)
    value = ApproxNDCGLoss(alpha=1e5)(scores, relevance, mask)
    torch.testing.assert_close(-value, ndcg_at_k(scores, relevance, mask=mask))
