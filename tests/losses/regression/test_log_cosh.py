"""What is true of the log-cosh loss alone; the conformance suite does the rest."""

import math

import pytest
import torch

from lossary.losses.regression.log_cosh import log_cosh


def test_matches_a_loop() -> None:
    prediction = torch.linspace(-6, 6, 49, dtype=torch.float64)
    expected = prediction.new_tensor([math.log(math.cosh(f)) for f in prediction.tolist()])
    torch.testing.assert_close(log_cosh(prediction, torch.zeros_like(prediction), reduction="none"), expected)


def test_gradient_is_the_hyperbolic_tangent() -> None:
    prediction = torch.linspace(-6, 6, 49, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(log_cosh(prediction, torch.zeros(49), reduction="sum"), prediction)
    torch.testing.assert_close(gradient, prediction.new_tensor([math.tanh(f) for f in prediction.tolist()]))


@pytest.mark.parametrize("error", [1e-4, 1e-3, 0.5, 100.0, 1e4])
def test_keeps_its_digits_in_single_precision(error: float) -> None:
    exact = error * error / 2 if error < 0.01 else error + math.log1p(math.exp(-2 * error)) - math.log(2)
    assert log_cosh(torch.tensor([error]), torch.zeros(1)).item() == pytest.approx(exact, rel=1e-5)
