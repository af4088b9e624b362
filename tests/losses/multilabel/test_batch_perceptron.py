"""What is true of the batch perceptron alone; the conformance suite does the rest."""

import torch
from torch.nn.functional import softplus

from lossary.losses.multilabel.batch_perceptron import batch_perceptron


def test_matches_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, target = torch.randn(20, dtype=torch.float64, generator=generator), torch.randint(2, (20,), generator=generator)
    expected = []
    for z, y in zip(logits.tolist(), target.tolist(), strict=True):
        wrong = (z < 0) if y else (z > 0)
        expected.append(abs(z) if wrong else 0.0)
    torch.testing.assert_close(batch_perceptron(logits, target, reduction="none"), logits.new_tensor(expected))


def test_the_slope_at_the_boundary_is_one_half() -> None:
    logits = torch.tensor([0.0, 0.0, -1.0, 1.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(batch_perceptron(logits, torch.tensor([1, 0, 1, 1]), reduction="sum"), logits)
    assert gradient.tolist() == [-0.5, 0.5, -1.0, 0.0]


def test_is_the_limit_of_the_logistic_loss() -> None:
    logits = torch.tensor([0.3, -0.2, 0.0, -4.0], dtype=torch.float64, requires_grad=True)
    limit = softplus(-1e6 * logits).sum() / 1e6
    value = batch_perceptron(logits, torch.ones(4), reduction="sum")
    torch.testing.assert_close(value, limit, atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.autograd.grad(value, logits), torch.autograd.grad(limit, logits))
