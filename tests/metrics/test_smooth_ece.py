"""The smooth calibration error: against quadrature of its definition, the paper's jump, and its limits."""

import itertools
import math
import time

import numpy as np
import pytest
import torch
from torch import Tensor

from lossary.errors import InvalidTypeError, InvalidValueError, LossaryError
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
    nothing = reliability_curve(torch.zeros(0), torch.zeros(0))
    assert nothing.error == 0.0
    assert nothing.plot().layout.title.text == "Smooth calibration error 0.000"


@pytest.mark.timing
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
    with pytest.raises(InvalidValueError, match="reliability_curve: bandwidth must be a finite number > 0 or None, got 0"):
        reliability_curve(f, y, 0.0)
    for wrong in (True, "wide"):
        with pytest.raises(InvalidTypeError, match=f"smooth_ece: bandwidth must be a finite number > 0 or None, got {wrong!r}"):
            smooth_ece(f, y, wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidTypeError, match="smooth_ece_from_logits: target must be class indices"):
        smooth_ece_from_logits(torch.rand(4, 2), y)
    with pytest.raises(InvalidValueError, match=r"smooth_ece_from_logits: logits must have shape \(N, C, \*\), got \(4,\)"):
        smooth_ece_from_logits(f, y)


def test_one_prediction_alone_is_its_own_error() -> None:
    for f in (0.0, 0.3, 1.0):
        assert float(smooth_ece(torch.tensor([f]), torch.tensor([1.0]))) == pytest.approx(1 - f, abs=1e-4)


def test_the_band_is_that_of_new_samples() -> None:
    """Of the points of the true curve, about as many lie inside of the band of a sample as it says."""
    generator = torch.Generator().manual_seed(7)

    def fresh() -> tuple[Tensor, Tensor]:
        f = torch.rand(800, generator=generator, dtype=torch.float64)
        return f, (torch.rand(800, generator=generator, dtype=torch.float64) < f**1.5).double()

    many = [fresh() for _ in range(200)]
    truth = reliability_curve(torch.cat([f for f, _ in many]), torch.cat([y for _, y in many]), 0.08, level=None)
    held = []
    for f, y in many[:40]:
        curve = reliability_curve(f, y, 0.08, level=0.9)
        held.append(((curve.low <= truth.accuracy) & (truth.accuracy <= curve.high)).double().mean())
    assert 0.84 < float(torch.stack(held).mean()) < 0.95


def test_the_band_holds_the_curve_and_narrows_with_more_predictions() -> None:
    f, y = sample("calibrated")
    few, many = reliability_curve(f, y, 0.1), reliability_curve(f.repeat(100), y.repeat(100), 0.1)
    assert ((few.low <= few.accuracy) & (few.accuracy <= few.high)).double().mean() > 0.95
    assert float((many.high - many.low).mean()) == pytest.approx(float((few.high - few.low).mean()) / 10, rel=0.15)
    again = reliability_curve(f, y, 0.1)
    assert torch.equal(again.low, few.low)  # drawn alike each time
    other = reliability_curve(f, y, 0.1, generator=torch.Generator().manual_seed(5))
    assert not torch.equal(other.low, few.low)
    assert reliability_curve(f, y, 0.1, level=None).low.isnan().all()


def test_the_global_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    reliability_curve(*sample("low"))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_diagram_shows_curve_band_and_density() -> None:
    f, y = sample("overconfident")
    curve = reliability_curve(f, y, 0.02)
    figure = curve.plot()
    observed = next(trace for trace in figure.data if trace.name == "observed")
    assert list(observed.y[200:202]) == pytest.approx(curve.accuracy[200:202].tolist())
    assert observed.y[0] is None  # no prediction is near 0
    assert any(trace.fill == "tonexty" for trace in figure.data)
    assert f"error {curve.error:.3f}" in figure.layout.title.text
    bare = reliability_curve(f, y, level=None).plot()
    assert not any(trace.fill == "tonexty" for trace in bare.data)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": 1.0}, r"reliability_curve: level must be a number between 0 and 1 or None, got 1\.0"),
        ({"level": "most"}, "reliability_curve: level must be a number from 0 to 1 or None, got 'most'"),
        ({"resamples": 1}, "reliability_curve: resamples must be an integer >= 2, got 1"),
        ({"resamples": 2.5}, r"reliability_curve: resamples must be an integer >= 2, got 2\.5"),
    ],
)
def test_mistakes_about_the_band_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(LossaryError, match=message):
        reliability_curve(torch.rand(4), torch.ones(4), **options)  # type: ignore[arg-type]


def test_what_is_not_a_number_stays_so() -> None:
    confidence = torch.tensor([0.5, math.nan])
    assert smooth_ece(confidence, torch.ones(2)).isnan()
    curve = reliability_curve(confidence, torch.ones(2))
    assert math.isnan(curve.error)
    assert curve.accuracy.isnan().all()
    assert curve.low.isnan().all()
    assert "nan" in curve.plot().layout.title.text


@pytest.mark.parametrize("power", [0.1, 1.0, 3.0, 30.0])
@pytest.mark.parametrize("samples", [1, 2, 30, 3000])
def test_the_width_that_is_found_is_its_own_error(power: float, samples: int) -> None:
    generator = torch.Generator().manual_seed(samples)
    f = torch.rand(samples, generator=generator, dtype=torch.float64) ** power
    y = (torch.rand(samples, generator=generator) < 0.5).double()
    found = float(smooth_ece(f, y))
    assert float(smooth_ece(f, y, max(found, 1e-9))) == pytest.approx(found, abs=1e-6)
    assert reliability_curve(f, y, level=None).bandwidth == pytest.approx(found, abs=1e-6)
