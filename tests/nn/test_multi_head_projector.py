"""Projection heads side by side: against the heads one by one."""

import pytest
import torch
from torch import nn

from lossary.errors import InvalidTypeError, InvalidValueError
from lossary.nn import MultiHeadProjector


def test_matches_separate_heads() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        projector = MultiHeadProjector(5, 4, num_heads=3, hidden_dim=6)
        x = torch.randn(7, 5)
    out = projector(x)
    assert out.shape == (7, 3, 4)
    for c in range(3):
        rows = slice(6 * c, 6 * c + 6)
        hidden = nn.functional.linear(x, projector.first.weight[rows], projector.first.bias[rows]).relu()
        torch.testing.assert_close(out[:, c], nn.functional.linear(hidden, projector.weight[c].T, projector.bias[c, 0]))


def test_heads_start_apart_and_learn_apart() -> None:
    projector = MultiHeadProjector(5, 4)
    assert projector.num_heads == 3
    x = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    out = projector(x)
    assert not torch.allclose(out[:, 0], out[:, 1])
    out[:, 1].sum().backward()
    assert projector.weight.grad is not None
    assert (projector.weight.grad.flatten(1).abs().sum(1) > 0).tolist() == [False, True, False]
    assert projector(x[:0]).shape == (0, 3, 4)


def test_mistakes_get_a_sentence() -> None:
    with pytest.raises(InvalidValueError, match=r"multi_head_projector: features must have shape \(N, 5\), got \(7, 4\)"):
        MultiHeadProjector(5, 4)(torch.zeros(7, 4))
    with pytest.raises(InvalidTypeError, match="multi_head_projector: features must be floating point"):
        MultiHeadProjector(5, 4)(torch.zeros(7, 5).long())
    with pytest.raises(InvalidValueError, match="multi_head_projector: num_heads must be an integer >= 1, got 0"):
        MultiHeadProjector(5, 4, num_heads=0)
