"""NDCG at k, against scikit-learn and against all orders of tied items."""

import itertools
import math

import pytest
import torch
from sklearn.metrics import ndcg_score
from torch import Tensor

from lossary.errors import InvalidTypeError, InvalidValueError
from lossary.metrics import ndcg_at_k


def drawn(lists: int, items: int, levels: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(items)
    scores = torch.randint(levels, (lists, items), generator=generator).double()
    return scores, torch.randint(4, (lists, items), generator=generator)


@pytest.mark.parametrize("k", [None, 1, 3, 12, 100])
@pytest.mark.parametrize("levels", [3, 10_000])
@pytest.mark.parametrize("exponential_gain", [False, True])
def test_matches_scikit_learn_on_ties_too(k: int | None, levels: int, exponential_gain: bool) -> None:
    scores, relevance = drawn(20, 12, levels)
    relevance[:, 0] = 1
    gains = 2 ** relevance.numpy() - 1 if exponential_gain else relevance.numpy()
    expected = [ndcg_score(gains[i : i + 1], scores[i : i + 1].numpy(), k=k) for i in range(20)]
    value = ndcg_at_k(scores, relevance, k, exponential_gain=exponential_gain, reduction="none")
    torch.testing.assert_close(value, value.new_tensor(expected))


def test_ties_are_the_average_over_orders() -> None:
    relevance = [2, 0, 1, 0]
    by_order = []
    for order in itertools.permutations(range(3)):  # the first three items tie
        gains = [2 ** relevance[i] - 1 for i in (*order, 3)]
        by_order.append(sum(g / math.log2(i + 2) for i, g in enumerate(gains[:2])))
    best = 3 + 1 / math.log2(3)
    value = ndcg_at_k(torch.tensor([[5.0, 5.0, 5.0, 1.0]]), torch.tensor([relevance]), 2)
    assert float(value) == pytest.approx(sum(by_order) / len(by_order) / best, abs=1e-6)


def test_padding_may_stand_anywhere() -> None:
    scores, relevance = drawn(8, 10, 4)
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(8, 10, generator=generator) < 0.6
    relevance = relevance.masked_fill(~mask, -1)
    scores = scores.masked_fill(~mask, math.inf)
    expected = [ndcg_at_k(s[m][None], r[m][None], 4) for s, r, m in zip(scores, relevance, mask, strict=True)]
    torch.testing.assert_close(ndcg_at_k(scores, relevance, 4, mask, reduction="none"), torch.stack(expected))


def test_real_items_of_score_minus_infinity_stand_before_padding() -> None:
    scores = torch.tensor([[-math.inf, 1.0, -math.inf]])
    value = ndcg_at_k(scores, torch.tensor([[0, 0, 1]]), mask=torch.tensor([[False, True, True]]))
    assert float(value) == pytest.approx(1 / math.log2(3), abs=1e-6)


def test_lists_without_a_relevant_item_do_not_count() -> None:
    scores = torch.tensor([[1.0, 2.0], [1.0, 2.0]])
    relevance = torch.tensor([[0, 1], [0, 0]])
    assert ndcg_at_k(scores, relevance).item() == 1.0
    assert ndcg_at_k(scores, relevance, reduction="none").tolist() == [1.0, 0.0]
    assert ndcg_at_k(scores[1:], relevance[1:]).item() == 0.0
    assert ndcg_at_k(scores[:0], relevance[:0]).item() == 0.0
    assert ndcg_at_k(scores[:, :0], relevance[:, :0]).item() == 0.0


def test_a_score_that_is_no_number_is_no_ranking() -> None:
    scores = torch.tensor([[math.nan, 2.0], [math.nan, 2.0]])
    mask = torch.tensor([[True, True], [False, True]])
    assert ndcg_at_k(scores, torch.ones(2, 2), mask=mask, reduction="none").isnan().tolist() == [True, False]


def test_refusals() -> None:
    x = torch.zeros(2, 3)
    with pytest.raises(InvalidValueError, match=r"ndcg_at_k: relevance must have shape \(2, 3\), got \(2,\)"):
        ndcg_at_k(x, torch.zeros(2))
    with pytest.raises(InvalidTypeError, match=r"ndcg_at_k: mask must be bool \(True for a real item\), got torch.float32"):
        ndcg_at_k(x, x, mask=x)
    with pytest.raises(InvalidValueError, match=r"ndcg_at_k: scores must have shape \(lists, items\), got \(3,\)"):
        ndcg_at_k(x[0], x[0])
    with pytest.raises(InvalidValueError, match="ndcg_at_k: k must be an integer >= 1 or None, got 0"):
        ndcg_at_k(x, x, 0)
