"""Dual head: two heads that share an embedding and nothing else."""

import pytest
import torch

from lossary import LossaryError
from lossary.nn import DualHead


@pytest.mark.parametrize("nonlinear", [False, True])
def test_heads_share_nothing_but_the_embedding(nonlinear: bool) -> None:
    head = DualHead(6, 3, nonlinear=nonlinear)
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(0), requires_grad=True)
    main, auxiliary = head(x)
    assert main.shape == auxiliary.shape == (5, 3)
    auxiliary.square().sum().backward()
    assert all(p.grad is None for p in head.main.parameters())
    assert all(p.grad is not None for p in head.auxiliary.parameters())
    assert x.grad is not None
    torch.testing.assert_close(main, x @ head.main.weight.T + head.main.bias)


def test_the_linear_auxiliary_head_is_linear_and_the_other_is_not() -> None:
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    for nonlinear in (False, True):
        head = DualHead(6, 3, nonlinear=nonlinear).eval()
        (_, one), (_, two), (_, zero) = head(x), head(2 * x), head(0 * x)
        assert torch.allclose(two - zero, 2 * (one - zero), atol=1e-5) == (not nonlinear)


def test_mistakes_are_named() -> None:
    with pytest.raises(LossaryError, match=r"dual_head: embedding must have shape \(N, 6\), got \(5, 4\)"):
        DualHead(6, 3)(torch.zeros(5, 4))
    with pytest.raises(LossaryError, match="dual_head: num_classes must be an integer >= 1, got 0"):
        DualHead(6, 0)
