"""Focal loss: cross-entropy with easy samples turned down."""

import torch
from torch import Tensor

from lossary._core.checks import check_class_inputs
from lossary._core.objective import SoftmaxObjective
from lossary._core.parameters import Fraction, NonNegative, Reduction, Vector, formula
from lossary._core.registry import SpecialCase, objective
from lossary._fast.classes.rule import Rows, average_over_rows
from lossary.losses.classification._common import power


@formula
def focal(
    logits: Tensor,
    target: Tensor,
    *,
    gamma: NonNegative = 2.0,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: Fraction = 0.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`FocalLoss`, with the same parameters."""
    check_class_inputs("focal", logits, target, weight)

    def if_class(row: Rows) -> Tensor:
        return -power(-torch.expm1(row.log_p), gamma) * row.log_p

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
    function=focal,
    tune={"gamma": (0.5, 5.0)},
    special_cases=[SpecialCase({"gamma": 0.0}, "cross_entropy")],
)
class FocalLoss(SoftmaxObjective):
    r"""Focal loss: cross-entropy that turns down samples which are already right.

    .. math:: \ell(z, y) = -(1 - p_y)^\gamma \log p_y, \qquad p = \mathrm{softmax}(z)

    There is no alpha: ``weight`` does what it would. For independent labels use ``sigmoid_focal``.

    Args:
        gamma: how strongly easy samples are turned down; 0 is cross-entropy.
        weight, ignore_index, label_smoothing, reduction: as in :class:`torch.nn.CrossEntropyLoss`.
    Shape: logits (N, C, \*); target (N, \*) class indices, or (N, C, \*) probabilities.
    Units: nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Lin, Goyal, Girshick, He and Dollar, "Focal Loss for Dense Object Detection", 2017, carried over from the sigmoid to
        the softmax as is usual in segmentation.

    >>> FocalLoss()(torch.tensor([[2.0, 0.0, -2.0]]), torch.tensor([0]))
    tensor(0.0025)
    """

    def __init__(
        self,
        *,
        gamma: NonNegative = 2.0,
        weight: Vector | None = None,
        ignore_index: int = -100,
        label_smoothing: Fraction = 0.0,
        reduction: Reduction = "mean",
    ):
        super().__init__(
            gamma=gamma, weight=weight, ignore_index=ignore_index, label_smoothing=label_smoothing, reduction=reduction
        )
