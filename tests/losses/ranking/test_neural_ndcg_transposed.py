"""NeuralNDCG Transposed is NeuralNDCG, summed in the other order."""

import pytest
import torch
from tests.losses.ranking._lists import actual, drawn

from lossary._fast.lists import rule as lists_rule
from lossary.losses.ranking import NeuralNDCGLoss, NeuralNDCGTransposedLoss
from lossary.losses.ranking.neural_ndcg import gains_of_ranks
from lossary.losses.ranking.neural_ndcg_transposed import discounts_of_items


@pytest.mark.parametrize("k", [None, 3])
@pytest.mark.parametrize("exponential_gain", [True, False])
@pytest.mark.parametrize("lists", [1, 6])
def test_equals_the_other(k: int | None, exponential_gain: bool, lists: int, monkeypatch: pytest.MonkeyPatch) -> None:
    scores, relevance, mask = drawn(lists, 9)
    for small in (0, 1 << 40):
        monkeypatch.setattr(lists_rule, "SMALL", small)
        for dtype in (torch.float32, torch.float64):
            pair = [
                actual(cls(k=k, exponential_gain=exponential_gain, reduction="none"), scores.to(dtype), relevance, mask)
                for cls in (NeuralNDCGLoss, NeuralNDCGTransposedLoss)
            ]
            torch.testing.assert_close(pair[0], pair[1], rtol=1e-6, atol=1e-6)


def test_the_two_sums_are_one_double_sum() -> None:
    generator = torch.Generator().manual_seed(0)
    matrix, gain = torch.rand(3, 4, 4, generator=generator), torch.rand(3, 4, generator=generator)
    discount = torch.rand(4, generator=generator)
    by_loop = [sum(float(discount[i] * matrix[n, i, j] * gain[n, j]) for i in range(4) for j in range(4)) for n in range(3)]
    for total in (gains_of_ranks, discounts_of_items):
        torch.testing.assert_close(total(matrix, gain, discount), torch.tensor(by_loop))


def test_noise_is_the_same_too() -> None:
    scores, relevance, mask = drawn(3, 6)
    values = []
    for cls in (NeuralNDCGLoss, NeuralNDCGTransposedLoss):
        torch.manual_seed(2)
        values.append(cls(stochastic=True, num_samples=4)(scores, relevance, mask))
    torch.testing.assert_close(values[0], values[1])
