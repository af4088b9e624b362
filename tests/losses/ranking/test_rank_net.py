"""RankNet against a loop over pairs."""

import pytest
import torch
from tests.losses.ranking._lists import check_against
from torch import Tensor

from lossary.losses.ranking import RankNetLoss


@pytest.mark.parametrize("ties", [False, True])
def test_matches_a_loop(ties: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def of_list(s: Tensor, y: Tensor) -> Tensor:
        pairs = [torch.log1p(torch.exp(-1.7 * (s[i] - s[j]))) for i in range(len(s)) for j in range(len(s)) if y[i] > y[j]]
        return torch.stack(pairs).mean()

    check_against(RankNetLoss(sigma=1.7, reduction="none"), of_list, monkeypatch, ties=ties)


def test_a_long_list_weighs_no_more_than_a_short_one() -> None:
    scores = torch.tensor([[1.0, 0.0, 9.0, 9.0], [0.5, 0.25, 0.0, -0.5]])
    mask = torch.tensor([[True, True, False, False], [True] * 4])
    relevance = torch.tensor([[1, 0, 5, 5], [1, 0, 0, 0]])
    alone = [RankNetLoss()(scores[:1, :2], relevance[:1, :2]), RankNetLoss()(scores[1:], relevance[1:])]
    torch.testing.assert_close(RankNetLoss()(scores, relevance, mask), torch.stack(alone).mean())
