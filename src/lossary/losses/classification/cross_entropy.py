"""Cross-entropy of the softmax."""

import torch
from torch import Tensor

from lossary._core.checks import check_class_inputs
from lossary._core.objective import SoftmaxObjective
from lossary._core.parameters import Fraction, Reduction, Vector, formula
from lossary._core.registry import objective
from lossary._fast.classes.rule import Rows, average_over_rows, small_and_whole


@formula
def cross_entropy(
    logits: Tensor,
    target: Tensor,
    *,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: Fraction = 0.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`CrossEntropyLoss`, with the same parameters."""
    check_class_inputs("cross_entropy", logits, target, weight)
    if small_and_whole(logits, target, weight, ignore_index) and not label_smoothing:
        return torch.nn.functional.cross_entropy(logits, target, weight, reduction=reduction)

    def if_class(row: Rows) -> Tensor:
        return -row.log_p

    return average_over_rows(
        logits,
        target,
        if_class,
        weight=weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
    )


@objective(
    family="classification",
    function=cross_entropy,
    aliases=("ce", "softmax_cross_entropy", "SoftTargetCrossEntropy"),
    proper=True,
    tune={"label_smoothing": (0.0, 0.3)},
)
class CrossEntropyLoss(SoftmaxObjective):
    r"""Cross-entropy of the softmax: the negative log-probability of the true class.

    .. math:: \ell(z, y) = -\log \mathrm{softmax}(z)_y

    The values are those of :class:`torch.nn.CrossEntropyLoss`, with two differences: nothing to average over gives 0 instead
    of NaN, and half-precision inputs give a float32 loss, which cannot overflow.

    Args:
        weight, ignore_index, label_smoothing, reduction: as in :class:`torch.nn.CrossEntropyLoss`.
    Shape: logits (N, C, \*); target (N, \*) class indices, or (N, C, \*) probabilities.
    Units: nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: textbook; the multi-class logarithmic score (Good, "Rational Decisions", 1952).

    >>> CrossEntropyLoss()(torch.tensor([[2.0, 0.0, -2.0]]), torch.tensor([0]))
    tensor(0.1429)
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
