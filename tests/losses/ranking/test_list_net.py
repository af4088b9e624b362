"""ListNet against the definition, list by list."""

import math

import pytest
import torch
from tests.losses.ranking._lists import check_against
from torch import Tensor

from lossary.losses.ranking import ListNetLoss


def test_matches_the_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    def of_list(s: Tensor, y: Tensor) -> Tensor:
        p = [math.exp(float(v)) for v in y]
        z = s.exp().sum()
        return torch.stack([-(p[i] / sum(p)) * torch.log(s[i].exp() / z) for i in range(len(s))]).sum()

    check_against(ListNetLoss(reduction="none"), of_list, monkeypatch)


def test_the_gradient_of_an_item_that_stands_far_too_low_is_whole() -> None:
    scores = torch.tensor([[-100.0, 100.0]], requires_grad=True)
    ListNetLoss()(scores, torch.tensor([[30.0, 0.0]])).backward()
    torch.testing.assert_close(scores.grad, torch.tensor([[-1.0, 1.0]]))
