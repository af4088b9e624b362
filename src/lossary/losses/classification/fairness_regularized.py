"""Fairness-regularised loss: the mean loss, and how far the groups are from it."""

from typing import Annotated, Literal

from torch import Tensor

from lossary._core.parameters import NonNegative, OneOf, SetReduction, formula
from lossary._core.registry import SpecialCase, objective
from lossary.losses.classification._groups import Base, GroupObjective, check_groups, mean_within_groups, sample_losses

Penalty = Annotated[Literal["gap", "variance"], OneOf(("gap", "variance"))]


@formula
def fairness_regularized(
    logits: Tensor,
    target: Tensor,
    group: Tensor,
    *,
    regularization: NonNegative = 1.0,
    penalty: Penalty = "gap",
    base: Base = "auto",
    reduction: SetReduction = "mean",
) -> Tensor:
    """The pure function behind :class:`FairnessRegularizedLoss`, with the same parameters."""
    check_groups("fairness_regularized", logits, target, group)
    each, kept = sample_losses(logits, target, base)
    if not each.shape[0]:
        return each.sum()
    mean = each.sum() / kept.sum().clamp_min(1)
    of_group, exists = mean_within_groups(each, kept, group)
    off = of_group - mean
    apart = (off.abs() if penalty == "gap" else off.square()).masked_fill(~exists, 0.0).sum() / exists.sum().clamp_min(1)
    loss = mean + regularization * apart
    return loss * kept.sum() if reduction == "sum" else loss


@objective(
    family="classification",
    function=fairness_regularized,
    decomposable=False,
    spatial=False,
    distributed="inexact",
    tune={"regularization": (0.1, 10.0)},
    special_cases=[SpecialCase({"regularization": 0.0}, "cross_entropy")],
)
class FairnessRegularizedLoss(GroupObjective):
    r"""Fairness-regularised loss: the mean loss, plus how far the mean losses of the groups are from it.

    .. math::
        \mathcal{L} = \bar\ell + \lambda \, \frac{1}{G} \sum_g |L_g - \bar\ell|,
        \qquad L_g = \frac{1}{|g|} \sum_{i : g_i = g} \ell(z_i, y_i), \quad \bar\ell = \frac{1}{N} \sum_i \ell(z_i, y_i)

    The paper's penalty could not be read in full; this is our reading. It can be lowered by making the better groups worse, which
    ``worst_group`` never does. Use batches in which every group occurs; one that is absent from the batch counts for nothing.
    Groups may have any numbers.

    Args:
        regularization: the weight lambda of the penalty; 0 is the mean loss.
        penalty: ``"gap"``, the absolute difference above, or ``"variance"``, its square, which has a gradient at equality too.
        base: the loss of a sample: ``"cross_entropy"`` of classes, ``"bce"`` (of each class against the rest, averaged, where there
            are several), or ``"auto"``, which is what the shape of the logits suggests.
        reduction: ``"mean"``, the formula above, or ``"sum"``, which is that times the number of samples.
    Shape: logits (N, C) with target (N,) class indices (-100 is left out) or (N, C) probabilities; or logits (N,) with
        floating-point target (N,) in [0, 1]; group (N,) int64.
    Units: nats; their square in the penalty ``"variance"``.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Junias, Kini and Chaspari, "Assessing Algorithmic Bias in Language-Based Depression Detection", 2025.

    >>> FairnessRegularizedLoss()(torch.tensor([[2.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 0]), torch.tensor([7, 8]))
    tensor(0.6931)
    """

    def __init__(
        self,
        *,
        regularization: NonNegative = 1.0,
        penalty: Penalty = "gap",
        base: Base = "auto",
        reduction: SetReduction = "mean",
    ):
        super().__init__(regularization=regularization, penalty=penalty, base=base, reduction=reduction)
