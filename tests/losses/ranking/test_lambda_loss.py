"""LambdaLoss against a loop over pairs, and against what a swap does to NDCG."""

import itertools
import math

import pytest
import torch
from tests.losses.ranking._lists import check_against
from torch import Tensor

from lossary.errors import InvalidValueError
from lossary.losses.ranking import LambdaLoss
from lossary.losses.ranking.lambda_loss import Weighing
from lossary.metrics import ndcg_at_k


def discount(rank: int, k: int | None = None) -> float:
    return 0.0 if k is not None and rank > k else 1 / math.log2(1 + rank)


@pytest.mark.parametrize(("weighing", "k"), [("ndcg_loss2++", None), ("ndcg_loss2++", 3), ("ndcg_loss2", 5), ("lambda_rank", 1)])
@pytest.mark.parametrize("ties", [False, True])
def test_matches_a_loop(weighing: Weighing, k: int | None, ties: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def of_list(s: Tensor, y: Tensor) -> Tensor:
        n, heights = len(s), s.tolist()
        order = sorted(range(n), key=lambda i: -heights[i])
        rank = {item: place + 1 for place, item in enumerate(order)}
        gain = [2 ** float(v) - 1 for v in y]
        ideal = sum(g * discount(place + 1, k) for place, g in enumerate(sorted(gain, reverse=True)))
        total = s.sum() * 0
        for i, j in itertools.product(range(n), repeat=2):
            if y[i] > y[j] and min(rank[i], rank[j]) <= (k or n):
                apart = abs(rank[i] - rank[j])
                delta, rho = discount(apart) - discount(apart + 1), abs(discount(rank[i], k) - discount(rank[j], k))
                weight = {"ndcg_loss2++": 6 * delta + rho, "ndcg_loss2": delta, "lambda_rank": rho}[weighing]
                total = total + weight * (gain[i] - gain[j]) / ideal * torch.log2(1 + torch.exp(-0.8 * (s[i] - s[j])))
        return total

    check_against(LambdaLoss(weighing=weighing, mu=6.0, sigma=0.8, k=k, reduction="none"), of_list, monkeypatch, ties=ties)


def test_a_pair_weighs_what_its_swap_does_to_ndcg() -> None:
    scores = torch.tensor([[4.0, 3.0, 2.0, 1.0, 0.0]], dtype=torch.float64)
    relevance = torch.zeros(1, 5)
    relevance[0, 3] = 2  # every pair is with this item
    swaps = []
    for other in range(5):
        swapped = scores.clone()
        swapped[0, [3, other]] = scores[0, [other, 3]]
        swaps.append(float((ndcg_at_k(swapped, relevance, 3) - ndcg_at_k(scores, relevance, 3)).abs()))
    by_hand = sum(w * math.log2(1 + math.exp(-float(scores[0, 3] - scores[0, j]))) for j, w in enumerate(swaps) if j != 3)
    assert float(LambdaLoss(weighing="lambda_rank", k=3)(scores, relevance)) == pytest.approx(by_hand)


def test_refusals() -> None:
    with pytest.raises(InvalidValueError, match=r"lambda_loss: weighing must be 'ndcg_loss2\+\+' or 'ndcg_loss2' or 'lambda_rank'"):
        LambdaLoss(weighing="ndcg_loss3")  # type: ignore[arg-type]
