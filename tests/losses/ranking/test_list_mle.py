"""ListMLE against the likelihood of an order, drawn item by item."""

import pytest
import torch
from tests.losses.ranking._lists import check_against
from torch import Tensor

from lossary.losses.ranking import ListMLELoss


def test_matches_a_loop_with_items_of_equal_relevance(monkeypatch: pytest.MonkeyPatch) -> None:
    def of_list(s: Tensor, y: Tensor) -> Tensor:
        terms = []
        for i in range(len(s)):
            left = [s[j].exp() for j in range(len(s)) if y[j] <= y[i]]
            terms.append(torch.log(torch.stack(left).sum()) - s[i])
        return torch.stack(terms).sum()

    check_against(ListMLELoss(reduction="none"), of_list, monkeypatch)


def test_an_order_without_ties_has_the_probability_of_drawing_it() -> None:
    weights = [3.0, 1.0, 2.0]
    probability = (3 / 6) * (2 / 3)  # the first, then the third, then the second
    value = ListMLELoss()(torch.tensor([weights]).log(), torch.tensor([[5.0, 1.0, 2.0]]))
    torch.testing.assert_close(value, -torch.tensor(probability).log())
