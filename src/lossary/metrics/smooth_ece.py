r"""SmoothECE: a calibration error that does not jump, and the reliability curve that goes with it.

.. math:: r_s(t) = \frac1n \sum_i (f_i - y_i) K_s(t, f_i), \qquad \mathrm{smECE}_s = \int_0^1 |r_s(t)|\,dt

with a Gaussian :math:`K_s` of width s reflected at 0 and 1; the smooth calibration error is the value at the one width with
:math:`\mathrm{smECE}_{s} = s`.
Source: Blasiok and Nakkiran, "Smooth ECE: Principled Reliability Diagrams via Kernel Smoothing", 2023.

Residuals are shared linearly between the two nearest points of a grid, and the kernel is applied there as the heat flow of the
reflected grid. Its Fourier form counts every reflection, keeps mass and sign exactly, so that the value never rises with the width
and never exceeds the mean of |f - y|, and makes the cost of another width independent of the number of predictions.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lossary._checks import check_floating, check_shape, check_tensor, shape_text
from lossary.errors import InvalidTypeError, InvalidValueError

CELLS = 4096  # of the grid on [0, 1]; a width below one cell cannot be told from one cell
SHOWN = 16  # every so many grid points one is returned in a reliability curve
HALVINGS = 20  # of the interval that holds the self-consistent width


class ReliabilityCurve(NamedTuple):
    """How often predictions of each confidence were right, smoothed at one bandwidth."""

    confidence: Tensor  # (points,) from 0 to 1
    accuracy: Tensor  # (points,), NaN where no prediction is near
    density: Tensor  # (points,) of the confidences, with integral 1
    bandwidth: float
    error: float  # the smooth calibration error at that bandwidth


def smooth_ece(confidence: Tensor, correct: Tensor, bandwidth: float | None = None) -> Tensor:
    """The smooth calibration error of confidences (N,) in [0, 1] against outcomes (N,) in [0, 1], a scalar in [0, 1].

    Without a ``bandwidth`` it is found from the data, and the gradient is that at the bandwidth found. With one, the value is
    differentiable in the confidences and can be added to a loss. No prediction at all gives 0.
    """
    _check("smooth_ece", confidence, correct, bandwidth)
    if confidence.numel() == 0:
        return confidence.sum() * 0.0
    values = _widened(confidence)
    spectrum = _spectrum(_binned(values, values - correct.to(values.dtype)))
    width = _consistent_width(spectrum.detach()) if bandwidth is None else float(bandwidth)
    error = _smoothed(spectrum, width).abs().sum()
    return error.to(torch.promote_types(confidence.dtype, torch.float32))


def smooth_ece_from_logits(logits: Tensor, target: Tensor, bandwidth: float | None = None, ignore_index: int = -100) -> Tensor:
    """The smooth calibration error of the top label: its softmax probability against whether it is the class in ``target``."""
    check_floating("smooth_ece_from_logits", "logits", logits)
    check_tensor("smooth_ece_from_logits", "target", target)
    if logits.ndim < 2:
        raise InvalidValueError(f"smooth_ece_from_logits: logits must have shape (N, C, *), got {shape_text(tuple(logits.shape))}")
    check_shape("smooth_ece_from_logits", "target", target, (logits.shape[0], *logits.shape[2:]))
    if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
        raise InvalidTypeError(f"smooth_ece_from_logits: target must be class indices (int64), got {target.dtype}")
    confidence, label = _widened(logits).softmax(1).max(1)
    kept = target != ignore_index
    error = smooth_ece(confidence[kept], (label == target)[kept], bandwidth)
    return error.to(torch.promote_types(logits.dtype, torch.float32))


def reliability_curve(confidence: Tensor, correct: Tensor, bandwidth: float | None = None) -> ReliabilityCurve:
    """The smooth reliability diagram; without a ``bandwidth`` at the one that :func:`smooth_ece` finds."""
    _check("reliability_curve", confidence, correct, bandwidth)
    values = _widened(confidence.detach())
    right = correct.detach().to(values.dtype)
    at = torch.linspace(0.0, 1.0, CELLS // SHOWN + 1, dtype=values.dtype, device=values.device)
    if values.numel() == 0:
        return ReliabilityCurve(at, torch.full_like(at, math.nan), torch.zeros_like(at), bandwidth or 0.0, 0.0)
    residuals = _spectrum(_binned(values, values - right))
    width = _consistent_width(residuals) if bandwidth is None else float(bandwidth)
    # A curve at a bandwidth below the grid would show single predictions; two cells is as sharp as a screen.
    shown = max(width, 2.0 / CELLS)
    density = 2 * CELLS * _smoothed(_spectrum(_binned(values, torch.ones_like(values))), shown)[: CELLS + 1 : SHOWN]
    hits = 2 * CELLS * _smoothed(_spectrum(_binned(values, right)), shown)[: CELLS + 1 : SHOWN]
    near = density > 1e-6  # below, the quotient is one of rounding errors
    accuracy = torch.where(near, hits / density.clamp_min(1e-6), math.nan).clamp(0.0, 1.0)
    return ReliabilityCurve(at, accuracy, density.clamp_min(0.0), width, float(_smoothed(residuals, width).abs().sum()))


def _check(owner: str, confidence: Tensor, correct: Tensor, bandwidth: float | None) -> None:
    check_floating(owner, "confidence", confidence)
    check_tensor(owner, "correct", correct)
    if confidence.ndim != 1:
        raise InvalidValueError(f"{owner}: confidence must have shape (N,), got {shape_text(tuple(confidence.shape))}")
    check_shape(owner, "correct", correct, tuple(confidence.shape))
    if correct.is_complex():
        raise InvalidTypeError(f"{owner}: correct must be real, got {correct.dtype}")
    if bandwidth is not None and not 0 < bandwidth < math.inf:
        raise InvalidValueError(f"{owner}: bandwidth must be a finite number > 0, got {bandwidth}")


def _widened(values: Tensor) -> Tensor:
    """Sums over millions of predictions need double precision, where the device has it."""
    return values.to(torch.float32 if values.device.type == "mps" else torch.float64)


def _binned(confidence: Tensor, weights: Tensor) -> Tensor:
    """The mean of point masses, each shared between its two neighbours on the grid (CELLS + 1,)."""
    position = confidence.clamp(0.0, 1.0) * CELLS
    below = position.detach().nan_to_num(0.0).floor().clamp(0, CELLS - 1)
    upper = weights * (position - below)
    place = below.long()
    grid = weights.new_zeros(CELLS + 1)
    return grid.index_add(0, place, weights - upper).index_add(0, place + 1, upper) / len(confidence)


def _spectrum(masses: Tensor) -> Tensor:
    """Fourier coefficients of the grid unfolded into a ring of 2 CELLS points, where reflection at 0 and 1 is going on."""
    halves = masses[1:-1] / 2
    ring: Tensor = torch.fft.rfft(torch.cat([masses[:1], halves, masses[-1:], halves.flip(0)]))
    return ring


def _smoothed(spectrum: Tensor, width: float) -> Tensor:
    """The ring after smoothing. Its first CELLS + 1 points times 2 CELLS are the density on [0, 1]."""
    strength = (width * CELLS) ** 2
    last = math.acos(max(1 - 40 / max(strength, 1e-9), -1.0)) / math.pi  # waves beyond are damped below the last digit
    count = min(int(last * CELLS) + 2, CELLS + 1)
    steps = torch.arange(count, dtype=spectrum.real.dtype, device=spectrum.device)
    decay = torch.exp(strength * (torch.cos(math.pi * steps / CELLS) - 1))
    ring: Tensor = torch.fft.irfft(spectrum[:count] * decay, n=2 * CELLS)
    return ring


def _consistent_width(spectrum: Tensor) -> float:
    """The width that equals the error at that width: the error falls with the width, so there is one, and halving finds it."""
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if _smoothed(spectrum, middle).abs().sum() < middle:
            high = middle
        else:
            low = middle
    return high
