"""Correctness-aware calibration: the confidence of a prediction should be 1 if it is right and 0 if it is wrong."""

import torch
from torch import Tensor

from lossary._core.checks import check_class_inputs
from lossary._core.objective import SoftmaxObjective
from lossary._core.parameters import Reduction, Vector, formula
from lossary._core.registry import objective
from lossary._fast.classes.rule import Formula, Rows, average_over_rows
from lossary.errors import InvalidValueError


@formula
def correctness_aware(
    logits: Tensor,
    target: Tensor,
    *,
    balanced: bool = False,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`CorrectnessAwareLoss`, with the same parameters."""
    check_class_inputs("correctness_aware", logits, target, weight)
    if balanced and reduction == "none":
        raise InvalidValueError("correctness_aware: reduction must be 'mean' or 'sum' for balanced=True, got 'none'")

    def average(if_class: Formula, reduction: str) -> Tensor:
        return average_over_rows(
            logits,
            target,
            if_class,
            needs=("top_log_p", "is_top"),
            weight=weight,
            ignore_index=ignore_index,
            label_smoothing=0.0,
            reduction=reduction,
        )

    if not balanced:
        return average(lambda row: torch.where(row.is_top > 0, _if_right(row), _if_wrong(row)), reduction)
    mass_right, mass_wrong = average(lambda row: row.is_top, "sum"), average(lambda row: 1 - row.is_top, "sum")
    sum_right = average(lambda row: row.is_top * _if_right(row), "sum")
    sum_wrong = average(lambda row: (1 - row.is_top) * _if_wrong(row), "sum")
    sides = (mass_right > 0).to(sum_right.dtype) + (mass_wrong > 0)
    safe_right, safe_wrong = torch.where(mass_right > 0, mass_right, 1.0), torch.where(mass_wrong > 0, mass_wrong, 1.0)
    loss = (sum_right / safe_right + sum_wrong / safe_wrong) / sides.clamp_min(1)
    return loss * (mass_right + mass_wrong) if reduction == "sum" else loss


def _if_right(row: Rows) -> Tensor:
    """The squared distance of the confidence from 1."""
    return torch.expm1(row.top_log_p).square()


def _if_wrong(row: Rows) -> Tensor:
    """And from 0."""
    return (2 * row.top_log_p).exp()


@objective(
    family="classification",
    function=correctness_aware,
    stage="posthoc",
    saturates=True,  # a square of a probability
    waivers={"minimum_at_the_target": "hardly predicting an unlikely class costs less, which the places tried do not show"},
)
class CorrectnessAwareLoss(SoftmaxObjective):
    r"""Correctness-aware calibration: the squared distance of a prediction's confidence from whether it is right.

    .. math::
        \ell(z, y) = \big(\max_c p_c - [\arg\max_c p_c = y]\big)^2, \qquad p = \mathrm{softmax}(z)

    To fit a calibrator on top of a frozen classifier: the logits are already divided by the temperature that it gives each sample.
    A prediction that is narrowly wrong loses confidence, where cross-entropy would give the true class more. As a loss to train a
    classifier with it is harmful: to be unsure wherever it is wrong is all it takes. Which class is predicted is a constant in the
    gradient. A soft target averages the losses of its classes.

    Args:
        balanced: right and wrong predictions have the same total weight, as in the authors' program; where there are only right or
            only wrong ones, they have all of it.
        weight, ignore_index, reduction: as in :class:`torch.nn.CrossEntropyLoss`; with ``balanced`` there is no ``"none"``.
    Shape: logits (N, C, \*); target (N, \*) class indices, or (N, C, \*) probabilities.
    Units: a squared probability, from 0 to 1: the Brier score of the confidence.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Liu, Wang, Zou, Zou and Zheng, "Optimizing Calibration by Gaining Aware of Prediction Correctness", 2024.

    >>> CorrectnessAwareLoss()(torch.tensor([[2.0, 0.0, -2.0], [2.0, 0.0, -2.0]]), torch.tensor([0, 1]))
    tensor(0.3846)
    """

    def __init__(
        self,
        *,
        balanced: bool = False,
        weight: Vector | None = None,
        ignore_index: int = -100,
        reduction: Reduction = "mean",
    ):
        super().__init__(balanced=balanced, weight=weight, ignore_index=ignore_index, reduction=reduction)
