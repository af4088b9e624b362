"""Asymmetric loss for one class of several."""

import torch
from torch import Tensor

from lossary._core.checks import check_class_inputs
from lossary._core.objective import SoftmaxObjective
from lossary._core.parameters import Fraction, NonNegative, Reduction, Vector, formula
from lossary._core.registry import SpecialCase, objective
from lossary._fast.classes.rule import Rows, average_over_rows
from lossary.losses.classification._common import power


@formula
def asymmetric_single_label(
    logits: Tensor,
    target: Tensor,
    *,
    gamma_pos: NonNegative = 0.0,
    gamma_neg: NonNegative = 4.0,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: Fraction = 0.1,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`AsymmetricSingleLabelLoss`, with the same parameters."""
    check_class_inputs("asymmetric_single_label", logits, target, weight)

    def as_other(p: Tensor, log_p: Tensor) -> Tensor:
        # products are several times faster than the exponential
        focus = p.pow(gamma_neg) if float(gamma_neg).is_integer() else torch.exp(gamma_neg * log_p)
        return focus * log_p

    def if_class(row: Rows) -> Tensor:
        smooth = label_smoothing / row.classes
        as_true = power(-torch.expm1(row.log_p), gamma_pos) * row.log_p
        return -((1 - label_smoothing + smooth) * as_true + smooth * (row.total - as_other(row.log_p.exp(), row.log_p)))

    return average_over_rows(
        logits,
        target,
        if_class,
        needs=("log_p", "total", "classes"),
        total=as_other,
        weight=weight,
        ignore_index=ignore_index,
        label_smoothing=0.0,  # the smoothing is part of l(c): the weights of the true class and of the others differ
        reduction=reduction,
    )


@objective(
    family="classification",
    function=asymmetric_single_label,
    tune={"gamma_pos": (0.0, 2.0), "label_smoothing": (0.0, 0.3)},
    special_cases=[SpecialCase({"gamma_pos": 0.0, "label_smoothing": 0.0}, "cross_entropy")],
    waivers={"smoothing_is_a_soft_target": "the smoothed share is weighted with the weights of the other classes"},
)
class AsymmetricSingleLabelLoss(SoftmaxObjective):
    r"""Asymmetric loss for one class of several: label-smoothed cross-entropy with a focusing weight on each class.

    .. math::
        \ell(z, y) = -\sum_c q_c\, w_c \log p_c, \qquad
        w_y = (1 - p_y)^{\gamma_+}, \quad w_{c \ne y} = p_c^{\gamma_-}, \quad q = (1 - e)\, \mathrm{onehot}(y) + e / C

    The weights depend on the hard label; a soft target averages the loss over its classes (our extension). For the same reason
    ``label_smoothing`` is a part of the loss here and not a change of the target.

    Args:
        gamma_pos: focusing of the true class.
        gamma_neg: focusing of the other classes, which only matter with smoothing.
        label_smoothing: the share e of the target spread over all classes.
        weight, ignore_index, reduction: as in :class:`torch.nn.CrossEntropyLoss`.
    Shape: logits (N, C, \*); target (N, \*) class indices, or (N, C, \*) probabilities.
    Units: nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Ben-Baruch and others, "Asymmetric Loss For Multi-Label Classification", 2020: the single-label variant of its program.

    >>> AsymmetricSingleLabelLoss()(torch.tensor([[2.0, 0.0, -2.0]]), torch.tensor([0]))
    tensor(0.1334)
    """

    def __init__(
        self,
        *,
        gamma_pos: NonNegative = 0.0,
        gamma_neg: NonNegative = 4.0,
        weight: Vector | None = None,
        ignore_index: int = -100,
        label_smoothing: Fraction = 0.1,
        reduction: Reduction = "mean",
    ):
        super().__init__(
            gamma_pos=gamma_pos,
            gamma_neg=gamma_neg,
            weight=weight,
            ignore_index=ignore_index,
            label_smoothing=label_smoothing,
            reduction=reduction,
        )
