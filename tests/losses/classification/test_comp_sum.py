"""What is true of comp-sum losses alone; the conformance suite does the rest."""

import math

import pytest
import torch

from lossary.losses.classification.comp_sum import comp_sum
from lossary.losses.classification.cross_entropy import cross_entropy

LOGITS = 2 * torch.randn(20, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
TARGET = torch.arange(20) % 4


def sums() -> list[float]:
    """u, the sum over the wrong classes, of each sample."""
    rows = zip(LOGITS.tolist(), TARGET.tolist(), strict=True)
    return [sum(math.exp(v - z[y]) for j, v in enumerate(z) if j != y) for z, y in rows]


@pytest.mark.parametrize("tau", [0.3, 0.999, 1.001, 1.4, 3.0])
def test_matches_a_loop(tau: float) -> None:
    expected = [((1 + u) ** (1 - tau) - 1) / (1 - tau) for u in sums()]
    torch.testing.assert_close(comp_sum(LOGITS, TARGET, tau=tau, reduction="none"), LOGITS.new_tensor(expected))


def test_its_named_members() -> None:
    p = torch.tensor([1 / (1 + u) for u in sums()], dtype=torch.float64)
    torch.testing.assert_close(comp_sum(LOGITS, TARGET, tau=0.0, reduction="none"), 1 / p - 1)
    torch.testing.assert_close(comp_sum(LOGITS, TARGET, tau=1.7, reduction="none"), (1 - p**0.7) / 0.7)
    torch.testing.assert_close(comp_sum(LOGITS, TARGET, tau=2.0, reduction="none"), 1 - p)


def test_it_falls_with_tau_and_passes_cross_entropy_smoothly() -> None:
    values = torch.stack([comp_sum(LOGITS, TARGET, tau=tau, reduction="none") for tau in (0.0, 0.5, 1.0, 1.5, 2.0, 4.0)])
    assert (values.diff(dim=0) < 0).all()
    reference = cross_entropy(LOGITS, TARGET)
    for near in (1e-15, -1e-15, 1e-13, -1e-13, 1e-9, -1e-9, 1e-6):
        assert comp_sum(LOGITS, TARGET, tau=1 + near).item() == pytest.approx(reference.item(), rel=3e-6)
        assert comp_sum(LOGITS.float(), TARGET, tau=1 + near).item() == pytest.approx(reference.item(), rel=3e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("tau", [0.0, 0.5, 0.999999, 2.0])
def test_no_finite_logit_overflows(tau: float, dtype: torch.dtype) -> None:
    logits = torch.tensor([[-1e4, 1e4, 0.0], [1e4, -1e4, 0.0]], dtype=dtype, requires_grad=True)
    loss = comp_sum(logits, torch.tensor([0, 0]), tau=tau, reduction="sum")
    loss.backward()
    assert loss.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert (logits.grad[0, 0] < 0) == (tau < 2)  # at tau = 2 it has saturated
