"""Worst group: the mean loss of the group that fares worst."""

import torch
from torch import Tensor

from lossary._core.parameters import SetReduction, formula
from lossary._core.registry import objective
from lossary.losses.classification._groups import Base, GroupObjective, check_groups, mean_within_groups, sample_losses


@formula
def worst_group(logits: Tensor, target: Tensor, group: Tensor, *, base: Base = "auto", reduction: SetReduction = "mean") -> Tensor:
    """The pure function behind :class:`WorstGroupLoss`, with the same parameters."""
    check_groups("worst_group", logits, target, group)
    each, kept = sample_losses(logits, target, base)
    if not each.shape[0]:
        return each.sum()
    of_group, exists = mean_within_groups(each, kept, group)
    worst = of_group.masked_fill(~exists, -float("inf")).amax()
    worst = torch.where(exists.any(), worst, each.sum())
    return worst * kept.sum() if reduction == "sum" else worst


@objective(family="classification", function=worst_group, decomposable=False, spatial=False, distributed="inexact")
class WorstGroupLoss(GroupObjective):
    r"""Worst-group loss: the mean loss of the group that fares worst.

    .. math:: \mathcal{L} = \max_g \frac{1}{|g|} \sum_{i : g_i = g} \ell(z_i, y_i)

    The loss of group distributionally robust optimisation without its running weights. Only the worst group has a gradient
    (equally bad ones share it), so that small batches make it oscillate: use batches in which every group occurs. A group that is
    absent from the batch counts for nothing. Groups may have any numbers.

    Args:
        base: the loss of a sample: ``"cross_entropy"`` of classes, ``"bce"`` (of each class against the rest, averaged, where there
            are several), or ``"auto"``, which is what the shape of the logits suggests.
        reduction: ``"mean"``, the formula above, or ``"sum"``, which is that times the number of samples.
    Shape: logits (N, C) with target (N,) class indices (-100 is left out) or (N, C) probabilities; or logits (N,) with
        floating-point target (N,) in [0, 1]; group (N,) int64.
    Units: nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Junias, Kini and Chaspari, "Assessing Algorithmic Bias in Language-Based Depression Detection", 2025, which takes it
        from group distributionally robust optimisation.

    >>> WorstGroupLoss()(torch.tensor([[2.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 0]), torch.tensor([7, 8]))
    tensor(0.6931)
    """

    def __init__(self, *, base: Base = "auto", reduction: SetReduction = "mean"):
        super().__init__(base=base, reduction=reduction)
