"""What is true of the asymmetric loss alone; the conformance suite does the rest."""

import math

import pytest
import torch

from lossary.losses.multilabel.asymmetric import asymmetric


@pytest.mark.parametrize("clip", [0.0, 0.05])
@pytest.mark.parametrize(("gamma_neg", "gamma_pos"), [(4.0, 0.0), (4.0, 1.0), (0.5, 0.5)])
def test_matches_a_loop(clip: float, gamma_neg: float, gamma_pos: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(40, dtype=torch.float64, generator=generator)
    target = torch.randint(2, (40,), generator=generator).double()
    expected = []
    for z, y in zip(logits.tolist(), target.tolist(), strict=True):
        p = 1 / (1 + math.exp(-z))
        shifted = max(p - clip, 0.0)
        expected.append((1 - p) ** gamma_pos * -math.log(p) if y else shifted**gamma_neg * -math.log(1 - shifted))
    value = asymmetric(logits, target, gamma_neg=gamma_neg, gamma_pos=gamma_pos, clip=clip, reduction="none")
    torch.testing.assert_close(value, logits.new_tensor(expected))


def test_an_easy_negative_costs_nothing_and_has_no_gradient() -> None:
    logits = torch.tensor([-3.0, -50.0], requires_grad=True)  # probabilities below the margin of 0.05
    loss = asymmetric(logits, torch.zeros(2))
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_missed_positive_keeps_its_gradient(dtype: torch.dtype) -> None:
    logits = torch.tensor([-30.0], dtype=dtype, requires_grad=True)
    loss = asymmetric(logits, torch.ones(1, dtype=dtype))
    loss.backward()
    assert loss.item() == pytest.approx(30.0)
    assert logits.grad is not None
    assert logits.grad.item() == pytest.approx(-1.0, rel=1e-3)


def test_detached_focusing_weights_are_constants_in_the_gradient() -> None:
    z = 0.7
    logits = torch.tensor([z], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(asymmetric(logits, torch.zeros(1), gamma_neg=3.0, clip=0.0), logits)
    p = 1 / (1 + math.exp(-z))
    assert gradient.item() == pytest.approx(p**3 * p)  # the weight times the slope of -log(1 - p)


@pytest.mark.parametrize("size", [1, 3000])  # plain operations, and one pass
@pytest.mark.parametrize("clip", [0.0, 1e-60, 1e-9, 0.05, 1.0])
@pytest.mark.parametrize("detach_focusing", [True, False])
def test_fractional_exponents_and_small_margins_stay_finite(size: int, clip: float, detach_focusing: bool) -> None:
    logits = torch.tensor([-1e4, -200.0, -3.0, 0.0, 17.0, 20.0, 1e4]).repeat(size).requires_grad_()
    for target in (0.0, 1.0):
        loss = asymmetric(
            logits,
            torch.full_like(logits, target),
            gamma_neg=0.5,
            gamma_pos=0.5,
            clip=clip,
            eps=1e-60,
            detach_focusing=detach_focusing,
        )
        (gradient,) = torch.autograd.grad(loss, logits)
        assert loss.isfinite()
        assert gradient.isfinite().all()


def test_a_small_margin_is_kept_beside_a_probability_that_rounds_to_one() -> None:
    loss = asymmetric(torch.tensor([40.0, 18.0]), torch.zeros(2), gamma_neg=0.0, clip=1e-9, reduction="none")
    assert loss.tolist() == pytest.approx([-math.log(1e-9), -math.log(1e-9 + 1 / (1 + math.exp(18)))])


def test_a_soft_target_averages_the_two_losses() -> None:
    """And does not mix their exponents."""
    logits = torch.tensor([0.7, -0.4, 2.0], dtype=torch.float64)
    zero, one, half = (asymmetric(logits, torch.full_like(logits, y), reduction="none") for y in (0.0, 1.0, 0.25))
    torch.testing.assert_close(half, 0.75 * zero + 0.25 * one)
