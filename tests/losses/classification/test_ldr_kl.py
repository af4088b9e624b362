"""What is true of LDR-KL alone; the conformance suite does the rest."""

import math

import pytest
import torch

from lossary.losses.classification import LdrKlLoss
from lossary.losses.classification.cross_entropy import cross_entropy
from lossary.losses.classification.ldr_kl import ldr_kl

LOGITS = 2 * torch.randn(20, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
TARGET = torch.arange(20) % 5


def leads(margin: float) -> list[list[float]]:
    """q_k of each sample."""
    rows = zip(LOGITS.tolist(), TARGET.tolist(), strict=True)
    return [[v - z[y] + (margin if k != y else 0.0) for k, v in enumerate(z)] for z, y in rows]


@pytest.mark.parametrize("temperature", [0.3, 1.0, 7.0])
@pytest.mark.parametrize("margin", [0.0, 0.1, 2.0])
def test_matches_a_loop(temperature: float, margin: float) -> None:
    expected = [temperature * math.log(sum(math.exp(q / temperature) for q in row) / 5) for row in leads(margin)]
    found = ldr_kl(LOGITS, TARGET, temperature=temperature, margin=margin, reduction="none")
    torch.testing.assert_close(found, LOGITS.new_tensor(expected))


def test_its_limits() -> None:
    at_one = ldr_kl(LOGITS, TARGET, margin=0.0)
    torch.testing.assert_close(at_one, cross_entropy(LOGITS, TARGET) - math.log(5))
    cold = ldr_kl(LOGITS, TARGET, temperature=1e-4, margin=0.7, reduction="none")
    torch.testing.assert_close(cold, LOGITS.new_tensor([max(row) for row in leads(0.7)]), rtol=1e-3, atol=1e-3)
    hot = ldr_kl(LOGITS, TARGET, temperature=1e6, margin=0.7, reduction="none")
    torch.testing.assert_close(hot, LOGITS.new_tensor([sum(row) / 5 for row in leads(0.7)]), rtol=1e-4, atol=1e-4)


def test_it_is_the_worst_case_over_distributions_of_the_label() -> None:
    """No distribution gives more, and the softmax of q / temperature gives as much."""
    value = ldr_kl(LOGITS, TARGET, temperature=2.0, margin=0.5, reduction="none")
    q = torch.tensor(leads(0.5), dtype=torch.float64)

    def payoff(p: torch.Tensor) -> torch.Tensor:
        return (p * q).sum(1) - 2.0 * (p * (5 * p).log()).sum(1)

    torch.testing.assert_close(payoff((q / 2.0).softmax(1)), value)
    for seed in range(20):
        p = torch.randn(20, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).softmax(1)
        assert (payoff(p) <= value + 1e-12).all()


def test_l1_makes_the_scale_of_the_logits_irrelevant() -> None:
    torch.testing.assert_close(
        ldr_kl(LOGITS, TARGET, normalize="l1", temperature=10.0), ldr_kl(30 * LOGITS, TARGET, normalize="l1", temperature=10.0)
    )
    expected = LOGITS * 5 / LOGITS.abs().sum(1, keepdim=True)
    torch.testing.assert_close(ldr_kl(LOGITS, TARGET, normalize="l1"), ldr_kl(expected, TARGET))
    torch.testing.assert_close(LdrKlLoss(normalize="l1", temperature=10.0).link(LOGITS), (expected / 10).softmax(1))


def test_softplus_makes_logits_positive_with_a_mean_of_one() -> None:
    positive = torch.tensor([[math.log1p(math.exp(v)) for v in row] for row in LOGITS.tolist()], dtype=torch.float64)
    expected = ldr_kl(positive / positive.mean(1, keepdim=True), TARGET)
    torch.testing.assert_close(ldr_kl(LOGITS, TARGET, normalize="softplus"), expected)


@pytest.mark.parametrize("temperature", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("margin", [0.0, 0.1, 5.0])
def test_finite_at_extremes(temperature: float, margin: float) -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0], [0.0, 0.0, 0.0]], requires_grad=True)
    loss = ldr_kl(logits, torch.zeros(3, dtype=torch.long), temperature=temperature, margin=margin, reduction="sum")
    loss.backward()
    assert loss.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad[1, 0] < 0
