"""Huber's loss."""

import torch
from torch import Tensor

from lossary._core.checks import check_element_inputs
from lossary._core.objective import IdentityObjective, average_over_elements, widen
from lossary._core.parameters import Positive, Reduction, Vector, formula
from lossary._core.registry import objective


@formula
def huber(
    prediction: Tensor,
    target: Tensor,
    *,
    delta: Positive = 1.0,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`HuberLoss`, with the same parameters."""
    check_element_inputs("huber", prediction, target, "prediction")
    wide = widen(prediction)
    error = wide - target.to(wide.dtype)
    size = error.abs()
    per_element = torch.where(size <= delta, 0.5 * error.square(), delta * (size - 0.5 * delta))
    return average_over_elements("huber", per_element, weight=weight, reduction=reduction)


@objective(
    family="regression",
    function=huber,
    link="value",
    proper=True,
    tune={"delta": (0.3, 3.0)},
)
class HuberLoss(IdentityObjective):
    r"""Huber's loss: squared for small errors, absolute for large ones.

    .. math::
        \ell(f, y) = \begin{cases}
            (f - y)^2 / 2 & |f - y| \le \delta \\ \delta (|f - y| - \delta / 2) & \text{otherwise}
        \end{cases}

    Args:
        delta: the error, in the target's units, above which a point counts as an outlier.
        weight: factors that broadcast to the prediction; the mean then divides by their sum.
        reduction: ``mean``, ``sum`` or ``none``.
    Shape: prediction and target of one shape.
    Units: the target's, squared.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Huber, "Robust Estimation of a Location Parameter", 1964; as :class:`torch.nn.HuberLoss`.

    >>> HuberLoss()(torch.tensor([1.0, 4.0]), torch.tensor([1.0, 1.0]))
    tensor(1.2500)
    """

    def __init__(
        self,
        *,
        delta: Positive = 1.0,
        weight: Vector | None = None,
        reduction: Reduction = "mean",
    ):
        super().__init__(delta=delta, weight=weight, reduction=reduction)
