"""ListMLE against the likelihood of an order, drawn item by item."""

import pytest
import torch
from tests.losses.ranking._lists import actual, check_against
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


@pytest.mark.parametrize("grades", [2, 16, 17, 400])  # each grade by itself, or items sorted
@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_any_number_of_grades(grades: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = scale * torch.randn(4, 400, generator=generator)
    relevance = torch.randint(grades, (4, 400), generator=generator) / 7
    relevance[2] -= relevance[2].mean()  # some are below 0, and so padding
    mask = torch.rand(4, 400, generator=generator) < 0.8
    for real in ((), (mask,)):
        found = actual(ListMLELoss(reduction="none"), scores, relevance, *real)
        of_double = actual(ListMLELoss(reduction="none"), scores.double(), relevance, *real)
        for one, other in zip(found, of_double, strict=True):
            torch.testing.assert_close(one.double(), other, rtol=3e-5, atol=1e-4)
