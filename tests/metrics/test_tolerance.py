"""Tolerance against a loop, and where there is nothing to average."""

import pytest
import torch

from lossary.errors import InvalidTypeError
from lossary.metrics import tolerance


def test_is_a_loop_over_pairs_of_one_class() -> None:
    x = torch.randn(9, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.tensor([3, 3, 3, 7, 7, 1, -2, -2, -2])
    cosines = [float(x[i] @ x[j] / x[i].norm() / x[j].norm()) for i in range(9) for j in range(i) if labels[i] == labels[j]]
    assert len(cosines) == 7
    assert tolerance(x, labels).item() == pytest.approx(sum(cosines) / 7, rel=1e-12)


def test_classes_of_one_have_nothing_to_say() -> None:
    x = torch.randn(3, 2, requires_grad=True)
    value = tolerance(x, torch.arange(3))
    assert value.item() == 0
    assert torch.autograd.grad(value, x)[0].abs().sum() == 0


def test_refuses_labels_that_are_no_integers() -> None:
    with pytest.raises(InvalidTypeError, match="tolerance: labels must be integers"):
        tolerance(torch.ones(2, 2), torch.ones(2))
