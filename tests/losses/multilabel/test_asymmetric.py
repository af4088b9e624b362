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
