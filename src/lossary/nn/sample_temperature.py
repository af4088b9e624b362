"""A temperature for each sample, from features that say how sure the classifier really is."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lossary._core.checks import check_floating, check_shape, shape_text
from lossary._core.objective import widen
from lossary._core.parameters import Positive, PositiveCount, checked
from lossary._core.registry import unit
from lossary.errors import InvalidTypeError, InvalidValueError


@unit(kind="layer", name="sample_temperature")
class SampleTemperature(nn.Module):
    r"""A small network that gives each sample its own temperature.

    .. math:: T = \mathrm{clamp}\left( v \cdot \max(W f + b, 0) + c, l, h \right), \qquad z' = z / T

    The classifier is frozen; this is trained with ``correctness_aware`` (or cross-entropy) on held-out data. It begins as the
    identity, with T = 1 for every sample: a network whose output begins near 0, as published, is below the clamp, where it has no
    gradient and never learns.

    Args:
        num_features: how many features there are for each sample.
        hidden: the width of the network.
        low, high: the bounds l and h of the temperature.
    Shape: logits (N, C); features (N, num_features); the result is (N, C).
    Errors: a shape other than these, or bounds that leave out 1, are a ``LossaryError``.
    Source: Liu, Wang, Zou, Zou and Zheng, "Optimizing Calibration by Gaining Aware of Prediction Correctness", 2024. Features there
        are the largest probabilities for three transformed copies of an image: :func:`top_probabilities`.

    >>> calibrator = SampleTemperature(num_features=12)
    >>> calibrator(torch.tensor([[2.0, 0.0]]), torch.rand(1, 12))
    tensor([[2., 0.]], grad_fn=<DivBackward0>)
    """

    @checked("sample_temperature")
    def __init__(self, num_features: PositiveCount, hidden: PositiveCount = 5, low: Positive = 0.1, high: Positive = 10.0):
        super().__init__()
        if not low < 1 < high:
            raise InvalidValueError(f"sample_temperature: low and high must lie on both sides of 1, got {low} and {high}")
        self.num_features, self.low, self.high = num_features, low, high
        self.inner = nn.Linear(num_features, hidden)
        self.outer = nn.Linear(hidden, 1)
        self._begin_at_one()

    def reset_parameters(self) -> None:
        """Draw the weights anew, so that every temperature is 1 again."""
        self.inner.reset_parameters()
        self._begin_at_one()

    def _begin_at_one(self) -> None:
        nn.init.zeros_(self.outer.weight)
        nn.init.ones_(self.outer.bias)

    def temperature(self, features: Tensor) -> Tensor:
        """The temperature of each sample (N,)."""
        check_floating("sample_temperature", "features", features)
        if features.ndim != 2 or features.shape[1] != self.num_features:
            given = shape_text(tuple(features.shape))
            raise InvalidValueError(f"sample_temperature: features must have shape (N, {self.num_features}), got {given}")
        temperature: Tensor = self.outer(torch.relu(self.inner(features))).squeeze(1)
        return temperature.clamp(self.low, self.high)

    def forward(self, logits: Tensor, features: Tensor) -> Tensor:
        check_floating("sample_temperature", "logits", logits)
        temperature = self.temperature(features)
        if logits.ndim != 2:
            raise InvalidValueError(f"sample_temperature: logits must have shape (N, C), got {shape_text(tuple(logits.shape))}")
        check_shape("sample_temperature", "logits", logits, (len(temperature), logits.shape[1]))
        return logits / temperature.unsqueeze(1)

    def extra_repr(self) -> str:
        return f"num_features={self.num_features}, low={self.low}, high={self.high}"


@unit(kind="data_rule")
@checked("top_probabilities")
def top_probabilities(views: Sequence[Tensor], top: PositiveCount = 4) -> Tensor:
    r"""Features that say how sure a classifier is: its largest probabilities for several views of each sample.

    .. math:: f = \left[ \mathrm{softmax}(z^{(v)})_{(1)}, \ldots, \mathrm{softmax}(z^{(v)})_{(k)} \right]_{v = 1}^{V}

    Args:
        views: the classifier's logits for each of V transformed copies of the samples (rotated, grey, colours jittered).
        top: how many probabilities k to keep of each, largest first.
    Shape: each view (N, C) with C >= top; the result is (N, V * top), float32 for half precision.
    Errors: no view, views of several shapes, or fewer classes than top are a ``LossaryError``.
    Source: Liu, Wang, Zou, Zou and Zheng, "Optimizing Calibration by Gaining Aware of Prediction Correctness", 2024.

    >>> top_probabilities([torch.tensor([[2.0, 0.0, 2.0]]), torch.zeros(1, 3)], top=2)
    tensor([[0.4683, 0.4683, 0.3333, 0.3333]])
    """
    if not isinstance(views, Sequence):
        raise InvalidTypeError(f"top_probabilities: views must be a sequence of tensors, got {type(views).__name__}")
    if not views:
        raise InvalidValueError("top_probabilities: views must hold at least one tensor, got none")
    for view in views:
        check_floating("top_probabilities", "views", view)
        check_shape("top_probabilities", "views", view, tuple(views[0].shape))
    if views[0].ndim != 2 or views[0].shape[1] < top:
        given = shape_text(tuple(views[0].shape))
        raise InvalidValueError(f"top_probabilities: views must have shape (N, C) with C >= {top}, got {given}")
    return torch.cat([widen(view).softmax(1).topk(top, 1).values for view in views], 1)
