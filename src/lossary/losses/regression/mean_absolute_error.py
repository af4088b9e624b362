"""Mean absolute error."""

from torch import Tensor

from lossary._core.checks import check_element_inputs
from lossary._core.objective import IdentityObjective, average_over_elements, widen
from lossary._core.parameters import Reduction, Vector, formula
from lossary._core.registry import objective


@formula
def mean_absolute_error(
    prediction: Tensor,
    target: Tensor,
    *,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`MeanAbsoluteErrorLoss`, with the same parameters."""
    check_element_inputs("mean_absolute_error", prediction, target, "prediction")
    wide = widen(prediction)
    error = wide - target.to(wide.dtype)
    per_element = error.abs()
    return average_over_elements("mean_absolute_error", per_element, weight=weight, reduction=reduction)


@objective(
    family="regression",
    function=mean_absolute_error,
    aliases=(
        "mae",
        "l1",
    ),
    link="value",
    proper=True,
)
class MeanAbsoluteErrorLoss(IdentityObjective):
    r"""Mean absolute error: fits the conditional median, whatever the size of the outliers.

    .. math:: \ell(f, y) = |f - y|

    Args:
        weight: factors that broadcast to the prediction; the mean then divides by their sum.
        reduction: ``mean``, ``sum`` or ``none``.
    Shape: prediction and target of one shape.
    Units: the target's.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: textbook (Boscovich, 1757); as :class:`torch.nn.L1Loss`, with a float32 loss for half-precision inputs.

    >>> MeanAbsoluteErrorLoss()(torch.tensor([1.0, 4.0]), torch.tensor([1.0, 1.0]))
    tensor(1.5000)
    """

    def __init__(
        self,
        *,
        weight: Vector | None = None,
        reduction: Reduction = "mean",
    ):
        super().__init__(weight=weight, reduction=reduction)
