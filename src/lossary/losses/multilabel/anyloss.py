"""AnyLoss: one minus a metric of the confusion matrix, with decisions made almost hard."""

from typing import Annotated, Literal

import torch
from torch import Tensor

from lossary._core.checks import check_element_inputs
from lossary._core.objective import SigmoidObjective, is_ignored, widen
from lossary._core.parameters import OneOf, Positive, SetReduction, formula
from lossary._core.registry import objective

Metric = Annotated[
    Literal["accuracy", "f_beta", "g_mean", "balanced_accuracy"], OneOf(("accuracy", "f_beta", "g_mean", "balanced_accuracy"))
]


@formula
def anyloss(
    logits: Tensor,
    target: Tensor,
    *,
    metric: Metric = "f_beta",
    beta: Positive = 1.0,
    amplification: Positive = 73.0,
    eps: Positive = 1e-12,
    ignore_index: int = -100,
    reduction: SetReduction = "mean",
) -> Tensor:
    """The pure function behind :class:`AnyLoss`, with the same parameters."""
    check_element_inputs("anyloss", logits, target)
    kept = ~is_ignored(target, ignore_index) & (logits != -torch.inf)  # a label that is masked is not there
    wide = widen(logits).masked_fill(~kept, 0.0)
    floor = max(eps, torch.finfo(torch.float32).tiny)
    positive = target.to(wide.dtype).masked_fill(~kept, 0.0)
    negative = (1 - target.to(wide.dtype)).masked_fill(~kept, 0.0)
    steep = amplification / 2 * torch.tanh(wide / 2)  # L (p - 1/2), also where p rounds to 0 or 1
    yes, no = steep.sigmoid(), (-steep).sigmoid()
    positives, negatives, total = positive.sum(), negative.sum(), kept.sum()
    true_positives, false_negatives = (positive * yes).sum(), (positive * no).sum()
    true_negatives, false_positives = (negative * no).sum(), (negative * yes).sum()

    if metric == "accuracy":
        loss = (false_negatives + false_positives) / total.clamp_min(1)
    else:
        # A class that is absent has no rate; that of the other one stands for both.
        some_positives, some_negatives = positives > 0, negatives > 0
        of_positives, of_negatives = torch.where(some_positives, positives, 1.0), torch.where(some_negatives, negatives, 1.0)
        miss, alarm = false_negatives / of_positives, false_positives / of_negatives
        if metric == "f_beta":
            weighted = true_positives + false_positives + beta**2 * positives
            loss = (beta**2 * false_negatives + false_positives) / torch.where(some_positives, weighted, 1.0)
            loss = torch.where(some_positives, loss, alarm)
        elif metric == "balanced_accuracy":
            loss = (torch.where(some_positives, miss, alarm) + torch.where(some_negatives, alarm, miss)) / 2
        else:
            hit, calm = true_positives / of_positives, true_negatives / of_negatives
            product = torch.where(some_positives, hit, calm) * torch.where(some_negatives, calm, hit)
            loss = 1 - ((product + floor) / (1 + floor)).sqrt()
            loss = torch.where(total > 0, loss, 0.0)

    return loss * total if reduction == "sum" else loss


@objective(
    family="multilabel",
    function=anyloss,
    decomposable=False,
    distributed="inexact",
    saturates=True,  # by making decisions almost hard: where the sigmoid is flat, so is the decision
    tune={"amplification": (10.0, 100.0)},
)
class AnyLoss(SigmoidObjective):
    r"""One minus a metric of the confusion matrix, on decisions that a steep sigmoid makes almost hard.

    .. math::
        \mathcal{L} = 1 - m(TP, FP, FN, TN), \quad TP = \sum_i y_i h_i, \; FP = \sum_i (1 - y_i) h_i, \; \dots, \quad
        h_i = \sigma\!\left(L\,(\sigma(z_i) - \tfrac12)\right)

    All elements of the batch share one confusion matrix. It is a function of the batch as a whole: the larger the batch, the closer
    to the metric, and the sums are always over this batch. The authors' programs differ: one divides by the size of the whole data
    set, which is only right for full batches, and the slope of the geometric mean written out in the other is four times too large.
    Samples that are utterly wrong have hardly any gradient: begin with small weights, or with ``binary_cross_entropy``.

    In a batch without positives, or without negatives, the rate of the missing class counts as that of the other one, and
    an F-score without positives is the share of negatives that are right; so such a batch still teaches something.

    Args:
        metric: ``"accuracy"``, ``"f_beta"``, ``"balanced_accuracy"`` (the mean of both classes' rates) or ``"g_mean"`` (the root of
            their product).
        beta: how much more recall counts than precision in ``"f_beta"``.
        amplification: the steepness L; large ones approach the metric of hard decisions, small ones make all decisions 1/2.
        eps: added under the root of ``"g_mean"``, whose slope is infinite where all of a class is wrong.
        ignore_index: elements whose target has this value are left out.
        reduction: ``"mean"``, the formula above, or ``"sum"``, which is that times the number of elements.
    Shape: logits and target of one shape (N, \*) or (N, L, \*); target in [0, 1].
    Units: a share, from 0 to 1.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Han, Moniz and Chawla, "AnyLoss: Transforming Classification Metrics into Loss Functions", 2024: all four metrics, its
        amplification of 73 and its threshold of 1/2. What happens without positives or negatives is our addition.

    >>> AnyLoss()(torch.tensor([0.1, -0.1, 0.1]), torch.tensor([1.0, 1.0, 0.0]))
    tensor(0.4820)
    """

    def __init__(
        self,
        *,
        metric: Metric = "f_beta",
        beta: Positive = 1.0,
        amplification: Positive = 73.0,
        eps: Positive = 1e-12,
        ignore_index: int = -100,
        reduction: SetReduction = "mean",
    ):
        super().__init__(
            metric=metric, beta=beta, amplification=amplification, eps=eps, ignore_index=ignore_index, reduction=reduction
        )
