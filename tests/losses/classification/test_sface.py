"""What is true of SFace alone; the conformance suite does the rest."""

import math
from operator import mul

import pytest
import torch

from lossary.losses.classification.sface import sface

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(9, 4, generator=GENERATOR, dtype=torch.float64)
W = torch.randn(5, 4, generator=GENERATOR, dtype=torch.float64)
TARGET = torch.randint(5, (9,), generator=GENERATOR)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def cosine(a: list[float], b: list[float]) -> float:
    return float(sum(map(mul, a, b))) / (math.hypot(*a) * math.hypot(*b))


def test_value_and_gradient_match_a_loop() -> None:
    x = X.clone().requires_grad_()
    value = sface(x, TARGET, W, scale=3.0, steepness=7.0, intra_threshold=0.9, inter_threshold=1.4, reduction="none")
    (gradient,) = torch.autograd.grad(value.sum(), x)
    for i, (a, y) in enumerate(zip(X.tolist(), TARGET.tolist(), strict=True)):
        cosines = [cosine(a, w) for w in W.tolist()]
        forces = [3.0 * sigmoid(-7.0 * (math.acos(c) - 1.4)) for c in cosines]
        forces[y] = -3.0 * sigmoid(7.0 * (math.acos(cosines[y]) - 0.9))
        assert value[i].item() == pytest.approx(sum(map(mul, forces, cosines)), rel=1e-9)
        length = math.hypot(*a)
        for d in range(4):
            slopes = [(w[d] / math.hypot(*w) - c * a[d] / length) / length for w, c in zip(W.tolist(), cosines, strict=True)]
            assert gradient[i, d].item() == pytest.approx(sum(map(mul, forces, slopes)), rel=1e-8, abs=1e-10)


def test_forces_fade_where_the_angles_are_good_enough() -> None:
    """Nearer than a to its own class and farther than b from the others, a sample is left in peace."""
    w = torch.eye(2, dtype=torch.float64)
    for angle, moves in ((0.2, False), (0.9, True), (1.4, True)):  # to the other class it is pi / 2 less
        x = torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(sface(x, torch.tensor([0]), w), x)
        assert (gradient.norm() > 1.0) == moves
        assert gradient.norm() <= 2 * 64.0
    on = torch.tensor([[1.0, 0.0]], requires_grad=True)
    assert torch.autograd.grad(sface(on, torch.tensor([0]), w.float()), on)[0].abs().max() < 1e-10


def test_a_steep_curve_is_a_gate() -> None:
    w = torch.eye(3, dtype=torch.float64)
    x = torch.tensor([[0.5, 0.8, 0.1]], dtype=torch.float64)
    unit = x / x.norm()  # angles 1.014, 0.570 and 1.465
    expected = -64.0 * unit[0, 0] + 64.0 * unit[0, 1]
    torch.testing.assert_close(sface(x, torch.tensor([0]), w, steepness=1e6), expected)


def test_lengths_do_not_count() -> None:
    torch.testing.assert_close(sface(X * 1e3, TARGET, W * 1e-2), sface(X, TARGET, W))


def test_the_gradient_is_no_derivative_of_the_value() -> None:
    """Strengths are constants; with their derivative, samples on the slope would be pushed another way."""
    x = X.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(sface(x, TARGET, W, reduction="sum"), x)
    step = 1e-6 * torch.randn(X.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    change = sface(X + step, TARGET, W, reduction="sum") - sface(X - step, TARGET, W, reduction="sum")
    assert abs(change / 2 - (gradient * step).sum()) > 1e-3 * abs(change)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_exactly_on_and_opposite_to_a_class_gradients_are_finite(dtype: torch.dtype) -> None:
    x = torch.eye(3, dtype=dtype)[[0, 0]].mul(torch.tensor([[1.0], [-1.0]], dtype=dtype)).requires_grad_()
    w = torch.eye(3).requires_grad_()
    value = sface(x, torch.tensor([0, 0]), w)
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(value, (x, w)))


def test_many_classes_give_what_few_operations_give() -> None:
    x, w = torch.randn(300, 8, generator=GENERATOR).requires_grad_(), torch.randn(1000, 8, generator=GENERATOR).requires_grad_()
    target = torch.randint(1000, (300,), generator=GENERATOR)
    rows = [sface(x[i : i + 50], target[i : i + 50], w, reduction="sum") for i in range(0, 300, 50)]
    whole, parts = sface(x, target, w, reduction="sum"), torch.stack(rows).sum()
    torch.testing.assert_close(whole, parts, rtol=1e-4, atol=1e-2)
    for got, wanted in zip(torch.autograd.grad(whole, (x, w)), torch.autograd.grad(parts, (x, w)), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-3)
