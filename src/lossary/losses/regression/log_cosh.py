"""Logarithm of the hyperbolic cosine."""

import math

import torch
from torch import Tensor

from lossary._core.checks import check_element_inputs
from lossary._core.objective import IdentityObjective, average_over_elements, widen
from lossary._core.parameters import Reduction, Vector, formula
from lossary._core.registry import objective


@formula
def log_cosh(
    prediction: Tensor,
    target: Tensor,
    *,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`LogCoshLoss`, with the same parameters."""
    check_element_inputs("log_cosh", prediction, target, "prediction")
    wide = widen(prediction)
    error = wide - target.to(wide.dtype)
    size = error.abs()
    small = size.clamp_max(1.0)  # each branch sees only inputs that it can take
    near = torch.log1p(2 * (0.5 * small).sinh().square())
    far = size + torch.log1p(torch.exp(-2 * size)) - math.log(2)
    per_element = torch.where(size < 1, near, far)
    return average_over_elements("log_cosh", per_element, weight=weight, reduction=reduction)


@objective(family="regression", function=log_cosh, link="value", proper=True)
class LogCoshLoss(IdentityObjective):
    r"""Logarithm of the hyperbolic cosine of the error: a smooth Huber loss.

    .. math:: \ell(f, y) = \log \cosh(f - y)

    Half the square near 0 and the absolute error less log 2 far away, with the hyperbolic tangent as its gradient. Written in two
    branches, it neither overflows for large errors nor loses the digits of small ones.

    Args:
        weight: factors that broadcast to the prediction; the mean then divides by their sum.
        reduction: ``mean``, ``sum`` or ``none``.
    Shape: prediction and target of one shape.
    Units: the target's.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: textbook; used as a loss by Chen et al., "Log Hyperbolic Cosine Loss Improves Variational Auto-Encoder", 2018.

    >>> LogCoshLoss()(torch.tensor([1.0, 4.0]), torch.tensor([1.0, 1.0]))
    tensor(1.1547)
    """

    def __init__(
        self,
        *,
        weight: Vector | None = None,
        reduction: Reduction = "mean",
    ):
        super().__init__(weight=weight, reduction=reduction)
