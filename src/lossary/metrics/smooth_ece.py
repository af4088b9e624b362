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
from typing import TYPE_CHECKING, Annotated, NamedTuple

import torch
from torch import Tensor

from lossary._core.checks import check_floating, check_shape, check_tensor, shape_text
from lossary._core.extras import require
from lossary._core.objective import class_indices
from lossary._core.parameters import Fraction, Interval, Positive, checked
from lossary._core.registry import unit
from lossary._core.values import check_indices
from lossary.errors import InvalidTypeError, InvalidValueError

if TYPE_CHECKING:
    import plotly.graph_objects

CELLS = 4096  # of the grid on [0, 1]; a width below one cell cannot be told from one cell
SHOWN = 16  # every so many grid points one is returned in a reliability curve
TOLERANCE = 1e-7  # of the self-consistent width
MOST_STEPS = 40  # towards it; about eight are taken, unless single precision cannot meet the tolerance

Several = Annotated[int, Interval(low=2, whole=True)]


class ReliabilityCurve(NamedTuple):
    """How often predictions of each confidence were right, smoothed at one bandwidth."""

    confidence: Tensor  # (points,) from 0 to 1
    accuracy: Tensor  # (points,), NaN where no prediction is near
    density: Tensor  # (points,) of the confidences, with integral 1
    bandwidth: float
    error: float  # the smooth calibration error at that bandwidth
    low: Tensor  # (points,) where the band around the accuracy begins; NaN without a band
    high: Tensor  # (points,) where it ends

    def plot(self) -> "plotly.graph_objects.Figure":
        """The reliability diagram: the curve with its band against the diagonal, and below it where the confidences are."""
        require("the reliability diagram of smooth_ece", "plotly")
        import plotly.graph_objects as go

        at = self.confidence.tolist()
        blue, grey = "#0072b2", "#888888"
        figure = go.Figure()
        figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", name="perfectly calibrated", line={"dash": "dot", "color": grey})
        if not self.low.isnan().all():
            edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
            figure.add_scatter(x=at, y=_gaps(self.low), **edge)
            figure.add_scatter(x=at, y=_gaps(self.high), fill="tonexty", fillcolor="rgba(0,114,178,0.2)", **edge)
        figure.add_scatter(x=at, y=_gaps(self.accuracy), mode="lines", name="observed", line={"color": blue, "width": 3})
        below = {"fill": "tozeroy", "fillcolor": "rgba(136,136,136,0.3)", "mode": "lines", "line": {"width": 0}, "yaxis": "y2"}
        figure.add_scatter(x=at, y=self.density.tolist(), name="density of the confidences", **below)
        highest = max(float(self.density.max()), 1e-9)
        figure.update_layout(
            title={"text": f"Smooth calibration error {self.error:.3f}"},
            xaxis={"title": {"text": "confidence"}, "range": [0, 1]},
            yaxis={"title": {"text": "share that was right"}, "range": [0, 1]},
            yaxis2={"overlaying": "y", "visible": False, "range": [0, 5 * highest]},
        )
        return figure


def _gaps(values: Tensor) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values.tolist()]


@unit(kind="diagnostic", declares={"bounds": (0.0, 1.0), "perfect": 0.0, "empty": 0.0})
@checked("smooth_ece")
def smooth_ece(confidence: Tensor, correct: Tensor, bandwidth: Positive | None = None) -> Tensor:
    r"""The smooth calibration error: how far confidence is from correctness, without the jumps of bins.

    .. math:: \mathrm{smECE}_s = \int_0^1 |r_s(t)|\,dt, \qquad r_s(t) = \frac1n \sum_i (f_i - y_i) K_s(t, f_i)

    with a Gaussian kernel of width s reflected at 0 and 1, at the one width that equals its own error. Widely used programs cut
    the kernel off half an interval away and reflect it once, which is wrong by 0.1 and more where the error is above 0.2; here
    every reflection counts.

    Args:
        confidence: what the model gives as the probability of being right.
        correct: whether it was right, or how often.
        bandwidth: a given width s, at which the value is differentiable in the confidences and can be added to a loss. Without
            one it is found from the data, and the gradient is that at the width found.
    Shape: confidence (N,) and correct (N,), both in [0, 1]; the result is a scalar. No prediction at all gives 0.
    Units: a difference of probabilities, in [0, 1].
    Errors: a shape or dtype other than these, or a bandwidth that is not positive, is a ``LossaryError``.
    Source: Blasiok and Nakkiran, "Smooth ECE: Principled Reliability Diagrams via Kernel Smoothing", 2023.

    >>> smooth_ece(torch.tensor([0.9, 0.9, 0.9, 0.9]), torch.tensor([1, 1, 1, 0]))
    tensor(0.1500)
    """
    _check("smooth_ece", confidence, correct)
    if confidence.numel() == 0:
        return confidence.sum() * 0.0
    values = _widened(confidence)
    spectrum = _spectrum(_binned(values, values - correct.to(values.dtype)))
    width = _consistent_width(spectrum.detach()) if bandwidth is None else float(bandwidth)
    error = _smoothed(spectrum, width).abs().sum()
    return error.to(torch.promote_types(confidence.dtype, torch.float32))


@unit(kind="diagnostic", declares={"bounds": (0.0, 1.0), "empty": 0.0})
@checked("smooth_ece_from_logits")
def smooth_ece_from_logits(logits: Tensor, target: Tensor, bandwidth: Positive | None = None, ignore_index: int = -100) -> Tensor:
    r"""The smooth calibration error of the top label of a classifier.

    .. math:: f_i = \max_c \mathrm{softmax}(z_i)_c, \qquad y_i = [\mathrm{argmax}_c z_{ic} = t_i]

    Of several classes with the largest logit each counts as the answer in equal shares.

    Args:
        logits, target: the classifier's outputs and the true classes.
        bandwidth: as in :func:`smooth_ece`.
        ignore_index: the class of samples that do not count.
    Shape: logits (N, C, \*); target (N, \*) class indices; the result is a scalar. No sample at all gives 0.
    Units: a difference of probabilities, in [0, 1].
    Errors: a shape or dtype other than these, or a bandwidth that is not positive, is a ``LossaryError``.
    Source: Blasiok and Nakkiran, "Smooth ECE: Principled Reliability Diagrams via Kernel Smoothing", 2023.

    >>> smooth_ece_from_logits(torch.tensor([[2.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 1]))
    tensor(0.1192)
    """
    check_floating("smooth_ece_from_logits", "logits", logits)
    check_tensor("smooth_ece_from_logits", "target", target)
    if logits.ndim < 2:
        raise InvalidValueError(f"smooth_ece_from_logits: logits must have shape (N, C, *), got {shape_text(tuple(logits.shape))}")
    check_shape("smooth_ece_from_logits", "target", target, (logits.shape[0], *logits.shape[2:]))
    if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
        raise InvalidTypeError(f"smooth_ece_from_logits: target must be class indices (int64), got {target.dtype}")
    index, ignored = class_indices(target, ignore_index)
    check_indices("smooth_ece_from_logits", "target", index, "class indices", logits.shape[1])
    p = _widened(logits).softmax(1).movedim(1, -1)[~ignored]  # (samples, C)
    confidence = p.amax(1, keepdim=True)
    top = p.detach() == confidence.detach()
    answer = torch.arange(p.shape[1], device=p.device) == index[~ignored].unsqueeze(1)
    right = (top & answer).sum(1) / top.sum(1).clamp_min(1)  # of several classes at the top, each is the answer in equal shares
    error = smooth_ece(confidence.squeeze(1), right, bandwidth)
    return error.to(torch.promote_types(logits.dtype, torch.float32))


@unit(kind="diagnostic")
@checked("reliability_curve")
def reliability_curve(
    confidence: Tensor,
    correct: Tensor,
    bandwidth: Positive | None = None,
    *,
    level: Fraction | None = 0.95,
    resamples: Several = 200,
    generator: torch.Generator | None = None,
) -> ReliabilityCurve:
    r"""The smooth reliability diagram: how often predictions of each confidence were right, with a band around it.

    .. math:: \hat y(t) = \frac{\sum_i y_i K_s(t, f_i)}{\sum_i K_s(t, f_i)}

    The band is pointwise, from a bootstrap of the predictions at the same bandwidth: it says what other samples of this size would
    give, not how much the smoothing itself hides. ``curve.plot()`` gives a Plotly figure.

    Args:
        confidence, correct: as in :func:`smooth_ece`.
        bandwidth: the width s; without one, that of :func:`smooth_ece`.
        level: how much of the bootstrap the band holds; None leaves it out.
        resamples: how many samples the bootstrap draws.
        generator: where they come from; without one they are always the same.
    Shape: confidence (N,) and correct (N,), both in [0, 1]; all tensors of the result (points,).
    Errors: a shape or dtype other than these, or a number outside its range, is a ``LossaryError``.
    Source: Blasiok and Nakkiran, "Smooth ECE: Principled Reliability Diagrams via Kernel Smoothing", 2023.

    >>> curve = reliability_curve(torch.tensor([0.9, 0.9, 0.9, 0.9]), torch.tensor([1, 1, 1, 0]))
    >>> round(curve.error, 3), round(float(curve.accuracy[230]), 3)
    (0.15, 0.75)
    """
    _check("reliability_curve", confidence, correct)
    if level is not None and not 0 < level < 1:
        raise InvalidValueError(f"reliability_curve: level must be a number between 0 and 1 or None, got {level}")
    values = _widened(confidence.detach())
    right = correct.detach().to(values.dtype)
    at = torch.linspace(0.0, 1.0, CELLS // SHOWN + 1, dtype=values.dtype, device=values.device)
    nothing = torch.full_like(at, math.nan)
    if values.numel() == 0:
        return ReliabilityCurve(at, nothing, torch.zeros_like(at), bandwidth or 0.0, 0.0, nothing, nothing)
    residuals = _spectrum(_binned(values, values - right))
    width = _consistent_width(residuals) if bandwidth is None else float(bandwidth)
    # A curve at a bandwidth below the grid would show single predictions; two cells is as sharp as a screen.
    shown = max(width, 2.0 / CELLS)
    hits, misses = _binned(values, right), _binned(values, 1 - right)
    accuracy, density = _quotient(hits, misses, shown)
    low, high = nothing, nothing
    if level is not None:
        draws = generator or torch.Generator(values.device).manual_seed(0)
        # A bootstrap counts each prediction a Poisson number of times; so does, cell by cell, the sum of those in a cell.
        rates = len(values) * torch.stack([hits, misses]).clamp_min(0.0).nan_to_num(0.0)
        counts = torch.poisson(rates.unsqueeze(1).expand(-1, resamples, -1), generator=draws) / len(values)
        again, _ = _quotient(counts[0], counts[1], shown)
        bounds = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=values.dtype, device=values.device)
        low, high = torch.where(accuracy.isnan(), math.nan, torch.nanquantile(again, bounds, 0))
    return ReliabilityCurve(at, accuracy, density, width, float(_smoothed(residuals, width).abs().sum()), low, high)


def _quotient(hits: Tensor, misses: Tensor, width: float) -> tuple[Tensor, Tensor]:
    """The smoothed share of hits and the density, (..., points)."""
    points = slice(None, CELLS + 1, SHOWN)
    right = 2 * CELLS * _smoothed(_spectrum(hits), width)[..., points]
    density = 2 * CELLS * _smoothed(_spectrum(hits + misses), width)[..., points]
    near = density > 1e-6  # below, the quotient is one of rounding errors
    accuracy = torch.where(near, right / density.clamp_min(1e-6), math.nan).clamp(0.0, 1.0)
    return accuracy, density.clamp_min(0.0)


def _check(owner: str, confidence: Tensor, correct: Tensor) -> None:
    check_floating(owner, "confidence", confidence)
    check_tensor(owner, "correct", correct)
    if confidence.ndim != 1:
        raise InvalidValueError(f"{owner}: confidence must have shape (N,), got {shape_text(tuple(confidence.shape))}")
    check_shape(owner, "correct", correct, tuple(confidence.shape))
    if correct.is_complex():
        raise InvalidTypeError(f"{owner}: correct must be real, got {correct.dtype}")


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
    halves = masses[..., 1:-1] / 2
    ring: Tensor = torch.fft.rfft(torch.cat([masses[..., :1], halves, masses[..., -1:], halves.flip(-1)], -1))
    return ring


def _smoothed(spectrum: Tensor, width: float) -> Tensor:
    """The ring after smoothing. Its first CELLS + 1 points times 2 CELLS are the density on [0, 1]."""
    strength = (width * CELLS) ** 2
    last = math.acos(max(1 - 40 / max(strength, 1e-9), -1.0)) / math.pi  # waves beyond are damped below the last digit
    count = min(int(last * CELLS) + 2, CELLS + 1)
    steps = torch.arange(count, dtype=spectrum.real.dtype, device=spectrum.device)
    decay = torch.exp(strength * (torch.cos(math.pi * steps / CELLS) - 1))
    ring: Tensor = torch.fft.irfft(spectrum[..., :count] * decay, n=2 * CELLS)
    return ring


def _consistent_width(spectrum: Tensor) -> float:
    """The width that equals the error at that width: the error falls with the width, so there is one. False position finds it."""

    def excess(width: float) -> float:
        return float(_smoothed(spectrum, width).abs().sum()) - width

    above = excess(0.0)
    if not TOLERANCE < above < math.inf:
        return 0.0
    low, high = 0.0, above  # no width has a larger error than none at all
    width, left = high, excess(high)
    below, latest = left, -1
    for _ in range(MOST_STEPS):
        if abs(left) < TOLERANCE:  # the excess falls faster than the width rises, so the width is at least as near
            break
        width = (low * below - high * above) / (below - above)
        left = excess(width)
        if left > 0:
            below = below / 2 if latest > 0 else below  # an end that stays twice counts for less (Illinois)
            low, above, latest = width, left, 1
        else:
            above = above / 2 if latest < 0 else above
            high, below, latest = width, left, -1
    return width
