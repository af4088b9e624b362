"""What is true of Huber's loss alone; the conformance suite does the rest."""

import pytest
import torch
from torch.nn.functional import huber_loss

from lossary.losses.regression.huber import huber


@pytest.mark.parametrize("delta", [0.5, 1.0, 3.0])
def test_matches_a_loop_and_torch(delta: float) -> None:
    prediction = torch.linspace(-4, 4, 33, dtype=torch.float64)
    target = torch.full((33,), 0.25, dtype=torch.float64)
    expected = []
    for f in prediction.tolist():
        size = abs(f - 0.25)
        expected.append(size * size / 2 if size <= delta else delta * (size - delta / 2))
    value = huber(prediction, target, delta=delta, reduction="none")
    torch.testing.assert_close(value, prediction.new_tensor(expected))
    torch.testing.assert_close(value, huber_loss(prediction, target, delta=delta, reduction="none"))


def test_gradient_is_the_clipped_error() -> None:
    prediction = torch.tensor([-5.0, -0.3, 0.0, 0.3, 5.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(huber(prediction, torch.zeros(5), delta=2.0, reduction="sum"), prediction)
    torch.testing.assert_close(gradient, torch.tensor([-2.0, -0.3, 0.0, 0.3, 2.0]))
