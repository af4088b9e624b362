"""What is true of squentropy alone; the conformance suite does the rest."""

import math

import pytest
import torch

from lossary.errors import InvalidValueError
from lossary.losses.classification.squentropy import squentropy


@pytest.mark.parametrize("classes", [2, 5])
def test_matches_a_loop_over_classes(classes: int) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(16, classes, dtype=torch.float64, generator=generator)
    target = torch.randint(classes, (16,), generator=generator)
    expected = []
    for z, y in zip(logits.tolist(), target.tolist(), strict=True):
        wrong = [v for j, v in enumerate(z) if j != y]
        expected.append(math.log(sum(map(math.exp, z))) - z[y] + sum(v * v for v in wrong) / len(wrong))
    torch.testing.assert_close(squentropy(logits, target, reduction="none"), logits.new_tensor(expected))


def test_gradient_in_closed_form() -> None:
    logits = torch.tensor([[0.3, -1.2, 0.8]], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(squentropy(logits, torch.tensor([2])), logits)
    exponentials = [math.exp(v) for v in (0.3, -1.2, 0.8)]
    expected = [exponentials[0] / sum(exponentials) + 0.3, exponentials[1] / sum(exponentials) - 1.2]
    expected.append(exponentials[2] / sum(exponentials) - 1)
    torch.testing.assert_close(gradient, torch.tensor([expected], dtype=torch.float64))


def test_zero_logits_cost_the_logarithm_of_the_number_of_classes() -> None:
    assert squentropy(torch.zeros(1, 8), torch.tensor([3])).item() == pytest.approx(math.log(8))


def test_notices_a_constant_added_to_all_logits() -> None:
    logits, target = torch.tensor([[1.0, -1.0, 0.0]]), torch.tensor([0])
    assert squentropy(logits + 3, target) > squentropy(logits, target) + 1


def test_one_class_has_no_wrong_ones() -> None:
    with pytest.raises(InvalidValueError, match="squentropy: logits must have at least 2 classes in dimension 1, got 1"):
        squentropy(torch.zeros(2, 1), torch.zeros(2, dtype=torch.int64))


def test_a_square_that_does_not_fit_into_half_precision() -> None:
    logits = torch.tensor([[300.0, -300.0, 0.0]], dtype=torch.float16, requires_grad=True)
    value = squentropy(logits, torch.tensor([0]))
    assert value.item() == 300**2 / 2
    (gradient,) = torch.autograd.grad(value, logits)
    assert gradient.tolist() == [[0.0, -300.0, 0.0]]


def test_a_soft_label_averages_the_losses_and_does_not_square_the_average() -> None:
    logits, q = torch.tensor([[1.0, -2.0, 3.0]], dtype=torch.float64), torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64)
    log_sum = math.log(math.exp(1) + math.exp(-2) + math.exp(3))
    expected = sum(q * (log_sum - z + (14 - z * z) / 2) for q, z in ((0.5, 1.0), (0.3, -2.0), (0.2, 3.0)))
    assert squentropy(logits, q).item() == pytest.approx(expected)
