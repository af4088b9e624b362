"""AR2's ranker is cross-entropy for column 0."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from lossary.errors import InvalidValueError
from lossary.losses.ranking import AR2RankerLoss


def test_is_cross_entropy_for_the_first_candidate() -> None:
    scores = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    expected = cross_entropy(scores / 0.5, torch.zeros(5, dtype=torch.long), reduction="none")
    torch.testing.assert_close(AR2RankerLoss(temperature=0.5, reduction="none")(scores), expected)
    torch.testing.assert_close(AR2RankerLoss(temperature=0.5)(scores), expected.mean())


def test_masked_candidates_are_absent_and_so_are_queries_without_a_positive() -> None:
    scores = torch.tensor([[1.0, torch.nan, 0.0], [1.0, 0.0, 2.0], [torch.nan, 0.0, 0.0]], requires_grad=True)
    mask = torch.tensor([[True, False, True], [True, True, True], [False, True, True]])
    value = AR2RankerLoss()(scores, mask)
    alone = AR2RankerLoss()(scores[:1, [0, 2]]), AR2RankerLoss()(scores[1:2])
    torch.testing.assert_close(value, torch.stack(alone).mean())
    gradient = torch.autograd.grad(value, scores)[0]
    assert not gradient[~mask].any()
    assert not gradient[2].any()
    assert gradient[0, 0] < 0


def test_refusals() -> None:
    with pytest.raises(InvalidValueError, match=r"ar2_ranker: scores must have shape \(N, K\), K >= 1, got \(2, 0\)"):
        AR2RankerLoss()(torch.zeros(2, 0))
