"""The smooth calibration error: against quadrature of its definition, the paper's jump, and its limits."""

import itertools
import math
import time

import numpy as np
import pytest
import torch
from torch import Tensor

from lossary.errors import InvalidTypeError, InvalidValueError
from lossary.metrics import reliability_curve, smooth_ece, smooth_ece_from_logits


def kernel(points: Tensor, confidence: Tensor, width: float) -> Tensor:
    """Gaussian reflected at 0 and 1, image by image (points, N)."""
    total = torch.zeros(len(points), len(confidence), dtype=torch.float64)
    for turn in range(-8, 9):
        for image in (confidence + 2 * turn, 2 * turn - confidence):
            total += torch.exp(-0.5 * ((points[:, None] - image[None]) / width) ** 2) / (width * math.sqrt(2 * math.pi))
    return total


def quadrature(confidence: Tensor, correct: Tensor, width: float) -> float:
    points = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    return float(((confidence - correct) * kernel(points, confidence, width)).mean(1).abs().mean())


def consistent(confidence: Tensor, correct: Tensor) -> float:
    low, high = 0.0, 1.0
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (low, middle) if quadrature(confidence, correct, middle) < middle else (middle, high)
    return (low + high) / 2


def sample(case: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    f = torch.rand(120, generator=generator, dtype=torch.float64)
    draw = torch.rand(120, generator=generator, dtype=torch.float64)
    if case == "calibrated":
        return f, (draw < f).double()
    if case == "overconfident":
        return 0.5 + f / 2, (draw < 0.6).double()
    if case == "at the ends":
        return f.round(), (draw < 0.8).double()
    return f**4, (draw < f).double()


CASES = ["calibrated", "overconfident", "at the ends", "low"]


@pytest.mark.parametrize("case", CASES)
def test_quadrature_of_the_definition_agrees(case: str) -> None:
    f, y = sample(case)
    assert float(smooth_ece(f, y)) == pytest.approx(consistent(f, y), abs=1e-3)
    for width in (0.01, 0.1, 0.4, 1.5):
        assert float(smooth_ece(f, y, width)) == pytest.approx(quadrature(f, y, width), abs=1e-3)


def test_it_does_not_jump_where_the_binned_error_does() -> None:
    """Half the points at 0.5 - e with y = 0 and half at 0.5 + e with y = 1, against all of them at 0.5 + e."""
    e, y = 1e-3, torch.tensor([0.0, 1.0]).repeat(50)
    assert float(smooth_ece(0.5 + e * (2 * y - 1), y)) == pytest.approx(0.020, abs=5e-4)
    assert float(smooth_ece(torch.full((100,), 0.5 + e), y)) == pytest.approx(0.001, abs=1e-4)


def test_one_confidence_for_all_gives_its_distance_to_the_mean() -> None:
    y = torch.tensor([1.0] * 7 + [0.0] * 3)
    for c in (0.0, 0.2, 0.95, 1.0):
        assert float(smooth_ece(torch.full((10,), c), y)) == pytest.approx(abs(c - 0.7), abs=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_it_falls_with_the_bandwidth_between_its_bounds(case: str) -> None:
    f, y = sample(case)
    values = [float(smooth_ece(f, y, width)) for width in (1e-5, 1e-3, 0.01, 0.05, 0.2, 1.0, 50.0)]
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(values))
    assert values[0] <= float((f - y).abs().mean()) + 1e-12
    assert values[-1] == pytest.approx(abs(float((f - y).mean())), abs=1e-9)  # as wide as this, everything is one bin


def test_perfect_and_worst_predictions() -> None:
    y = torch.tensor([0.0, 1.0, 1.0])
    assert float(smooth_ece(y, y)) == pytest.approx(0.0, abs=1e-6)
    assert float(smooth_ece(torch.ones(3), torch.zeros(3))) == pytest.approx(1.0)


def test_the_gradient_at_a_given_bandwidth() -> None:
    f, y = sample("overconfident")
    f = (f[:20] + 1e-5).requires_grad_()
    assert torch.autograd.gradcheck(lambda f: smooth_ece(f, y[:20], 0.1), (f,), eps=1e-7, atol=1e-5)
    (gradient,) = torch.autograd.grad(smooth_ece(f, y[:20]), f)
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0


def test_nothing_to_average_is_zero_with_a_gradient() -> None:
    f = torch.zeros(0, requires_grad=True)
    smooth_ece(f, torch.zeros(0)).backward()
    assert f.grad is not None
    assert reliability_curve(torch.zeros(0), torch.zeros(0)).error == 0.0


def test_millions_of_predictions_are_fast_and_exact_in_half_precision_too() -> None:
    generator = torch.Generator().manual_seed(0)
    f = torch.rand(1_000_000, generator=generator)
    y = torch.rand(1_000_000, generator=generator) < f
    smooth_ece(f, y)
    times, sorting = [], []
    for _ in range(5):
        start = time.perf_counter()
        error = smooth_ece(f, y)
        middle = time.perf_counter()
        f.sort()  # a yardstick that is slow when the machine is
        times.append(middle - start)
        sorting.append(time.perf_counter() - middle)
    assert min(times) < max(0.1, 2 * min(sorting))
    assert float(error) < 0.01
    assert float(smooth_ece(torch.full((1_000_000,), 0.25, dtype=torch.float16), y)) == pytest.approx(0.25, abs=2e-3)


def test_logits_are_judged_by_their_top_label() -> None:
    logits = torch.randn(50, 4, 3, generator=torch.Generator().manual_seed(1))
    target = torch.randint(0, 4, (50, 3), generator=torch.Generator().manual_seed(2))
    confidence, label = logits.softmax(1).max(1)
    expected = smooth_ece(confidence.flatten(), (label == target).flatten())
    assert float(smooth_ece_from_logits(logits, target)) == pytest.approx(float(expected), abs=1e-6)
    target[0] = -100
    expected = smooth_ece(confidence[1:].flatten(), (label == target)[1:].flatten())
    assert float(smooth_ece_from_logits(logits, target)) == pytest.approx(float(expected), abs=1e-6)


def test_the_curve_is_the_weighted_mean_of_outcomes() -> None:
    f, y = sample("overconfident")
    curve = reliability_curve(f, y, 0.05)
    weights = kernel(curve.confidence, f, 0.05)
    near = ~curve.accuracy.isnan()
    expected = (weights * y).sum(1) / weights.sum(1)
    np.testing.assert_allclose(curve.accuracy[near], expected[near], atol=1e-3)
    assert float(torch.trapezoid(curve.density, curve.confidence)) == pytest.approx(1.0, abs=1e-3)
    assert curve.error == pytest.approx(float(smooth_ece(f, y, 0.05)))
    assert reliability_curve(f, y).bandwidth == pytest.approx(float(smooth_ece(f, y)), abs=1e-4)


def test_mistakes_are_named() -> None:
    f, y = torch.rand(4), torch.ones(4)
    with pytest.raises(InvalidValueError, match=r"smooth_ece: correct must have shape \(4,\), got \(3,\)"):
        smooth_ece(f, y[:3])
    with pytest.raises(InvalidValueError, match=r"smooth_ece: confidence must have shape \(N,\), got \(2, 2\)"):
        smooth_ece(f.view(2, 2), y.view(2, 2))
    with pytest.raises(InvalidTypeError, match=r"smooth_ece: confidence must be floating point, got torch\.int64"):
        smooth_ece(f.long(), y)
    with pytest.raises(InvalidValueError, match="reliability_curve: bandwidth must be a finite number > 0, got 0"):
        reliability_curve(f, y, 0.0)
    with pytest.raises(InvalidTypeError, match="smooth_ece_from_logits: target must be class indices"):
        smooth_ece_from_logits(torch.rand(4, 2), y)
    with pytest.raises(InvalidValueError, match=r"smooth_ece_from_logits: logits must have shape \(N, C, \*\), got \(4,\)"):
        smooth_ece_from_logits(f, y)
