"""Squentropy: cross-entropy plus the mean square of the wrong classes' logits."""

from torch import Tensor

from lossary._core.checks import check_class_inputs
from lossary._core.objective import SoftmaxObjective
from lossary._core.parameters import Fraction, Reduction, Vector, formula
from lossary._core.registry import objective
from lossary._fast.classes.rule import Rows, average_over_rows


@formula
def squentropy(
    logits: Tensor,
    target: Tensor,
    *,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: Fraction = 0.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`SquentropyLoss`, with the same parameters."""
    check_class_inputs("squentropy", logits, target, weight, min_classes=2)

    def if_class(row: Rows) -> Tensor:
        return (row.sum_of_squares - row.logits.square()) / (row.classes - 1) - row.log_p

    return average_over_rows(
        logits,
        target,
        if_class,
        needs=("logits", "log_p", "sum_of_squares", "classes"),
        weight=weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
    )


@objective(family="classification", function=squentropy)
class SquentropyLoss(SoftmaxObjective):
    r"""Cross-entropy plus the mean squared logit of the wrong classes.

    .. math:: \ell(z, y) = -\log \mathrm{softmax}(z)_y + \frac{1}{C-1} \sum_{j \ne y} z_j^2

    A soft target averages the loss over its classes: our extension; on hard targets it is the paper's loss. Unlike cross-entropy
    it changes when a constant is added to all logits.

    Args:
        weight, ignore_index, label_smoothing, reduction: as in :class:`torch.nn.CrossEntropyLoss`.
    Shape: logits (N, C, \*) with C > 1; target (N, \*) class indices, or (N, C, \*) probabilities.
    Units: nats, plus squared logits.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Hui, Belkin and Wright, "Cut your Losses with Squentropy", 2023: the loss as defined there.

    >>> SquentropyLoss()(torch.tensor([[2.0, 0.0, -2.0]]), torch.tensor([0]))
    tensor(2.1429)
    """

    def __init__(
        self,
        *,
        weight: Vector | None = None,
        ignore_index: int = -100,
        label_smoothing: Fraction = 0.0,
        reduction: Reduction = "mean",
    ):
        super().__init__(weight=weight, ignore_index=ignore_index, label_smoothing=label_smoothing, reduction=reduction)
