"""Mean reciprocal rank, against a loop over orders."""

import itertools
import math

import pytest
import torch

from lossary.errors import InvalidTypeError
from lossary.metrics import mean_reciprocal_rank


def by_orders(scores: list[float], relevant: list[int], k: int) -> float:
    """The average over all orders that agree with the scores."""
    found = []
    for order in itertools.permutations(range(len(scores))):
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order)):
            rank = next(place for place, item in enumerate(order, 1) if relevant[item])
            found.append(1 / rank if rank <= k else 0.0)
    return sum(found) / len(found)


@pytest.mark.parametrize("k", [1, 2, 6])
def test_ties_are_the_average_over_orders(k: int) -> None:
    generator = torch.Generator().manual_seed(k)
    scores = torch.randint(3, (12, 6), generator=generator).double()
    relevance = torch.randint(2, (12, 6), generator=generator)
    relevance[:, 2] = 3
    expected = [by_orders(s, [int(v > 0) for v in r], k) for s, r in zip(scores.tolist(), relevance.tolist(), strict=True)]
    torch.testing.assert_close(mean_reciprocal_rank(scores, relevance, k, reduction="none"), torch.tensor(expected).double())


def test_padding_may_stand_anywhere_and_lists_without_a_relevant_item_do_not_count() -> None:
    scores = torch.tensor([[9.0, 1.0, 2.0, 3.0], [4.0, 3.0, 2.0, 9.0], [1.0, 2.0, 3.0, 4.0]])
    relevance = torch.tensor([[1, 1, 0, 0], [0, 0, 2, 1], [0, 0, 0, 1]])
    mask = torch.tensor([[False, True, True, True], [True, True, True, False], [True, True, True, False]])
    torch.testing.assert_close(
        mean_reciprocal_rank(scores, relevance, mask=mask, reduction="none"), torch.tensor([1 / 3, 1 / 3, 0.0])
    )
    assert mean_reciprocal_rank(scores, relevance, mask=mask).item() == pytest.approx(1 / 3)
    assert mean_reciprocal_rank(scores[:0], relevance[:0]).item() == 0.0
    assert mean_reciprocal_rank(scores[:, :0], relevance[:, :0]).item() == 0.0


def test_long_lists_of_one_score() -> None:
    relevance = torch.zeros(1, 2000)
    relevance[0, 7] = 1
    expected = sum(1 / rank for rank in range(1, 2001)) / 2000
    assert mean_reciprocal_rank(torch.zeros(1, 2000).double(), relevance).item() == pytest.approx(expected)


def test_a_score_that_is_no_number_is_no_ranking() -> None:
    assert mean_reciprocal_rank(torch.tensor([[math.nan, 1.0]]), torch.tensor([[1, 0]])).isnan()


def test_refusals() -> None:
    with pytest.raises(InvalidTypeError, match="mean_reciprocal_rank: scores must be floating point, got torch"):
        mean_reciprocal_rank(torch.zeros(2, 3).long(), torch.zeros(2, 3))
