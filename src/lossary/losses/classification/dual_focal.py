"""Dual focal loss: the focal factor also looks at the runner-up."""

import torch
from torch import Tensor

from lossary._checks import check_class_inputs
from lossary._domains import Fraction, NonNegative, Reduction, formula
from lossary._objective import SoftmaxObjective, average_over_classes, log_softmax, widen
from lossary._registry import SpecialCase, objective
from lossary.losses.classification._common import power


def _next_lower(p: Tensor, log_p: Tensor) -> Tensor:
    """For each class, the largest probability strictly below its own, or 0."""
    ascending, order = log_p.detach().sort(1)
    place = torch.arange(p.shape[1], device=p.device).view(-1, *[1] * (p.ndim - 2)).expand_as(order)
    below_is_less = ascending > ascending.roll(1, 1)  # false at place 0, whose neighbour is the largest
    lower_place = torch.where(below_is_less, place - 1, -1).cummax(1).values  # classes that tie share their neighbour
    lower_class = order.gather(1, lower_place.clamp_min(0))
    lower = p.gather(1, lower_class).masked_fill(lower_place < 0, 0.0)
    return lower.gather(1, order.argsort(1))


@formula
def dual_focal(
    logits: Tensor,
    target: Tensor,
    *,
    gamma: NonNegative = 5.0,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: Fraction = 0.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`DualFocalLoss`, with the same parameters."""
    check_class_inputs("dual_focal", logits, target, weight)
    log_p = log_softmax(widen(logits))
    p = log_p.exp()
    if_class = -power(1 - p + _next_lower(p, log_p), gamma) * log_p

    return average_over_classes(
        if_class, target, weight=weight, ignore_index=ignore_index, label_smoothing=label_smoothing, reduction=reduction
    )


@objective(
    family="classification",
    function=dual_focal,
    tune={"gamma": (0.5, 8.0)},
    special_cases=[SpecialCase({"gamma": 0.0}, "cross_entropy")],
)
class DualFocalLoss(SoftmaxObjective):
    r"""Focal loss whose factor also contains the largest probability below the true class's own.

    .. math:: \ell(z, y) = -(1 - p_y + p_j)^\gamma \log p_y, \qquad p_j = \max \{p_k : p_k < p_y\} \text{ or } 0

    The factor turns a sample down only when its class leads by much, which mends the focal loss's lack of confidence. Ties are
    told apart by comparing log-probabilities, and the runner-up has a gradient too.

    Args:
        gamma: how strongly clear cases are turned down; 0 is cross-entropy. The paper chooses it by validation, about 5.
        weight, ignore_index, label_smoothing, reduction: as in :class:`torch.nn.CrossEntropyLoss`.
    Shape: logits (N, C, \*); target (N, \*) class indices, or (N, C, \*) probabilities.
    Units: nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Tao, Dong and Xu, "Dual Focal Loss for Calibration", 2023. The authors' program sums by default and has gamma 0; here
        the mean is the default, as everywhere, and gamma is 5.

    >>> DualFocalLoss(gamma=1.0)(torch.tensor([[2.0, 0.0, -2.0]]), torch.tensor([0]))
    tensor(0.0358)
    """

    def __init__(
        self,
        *,
        gamma: NonNegative = 5.0,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        label_smoothing: Fraction = 0.0,
        reduction: Reduction = "mean",
    ):
        super().__init__(
            gamma=gamma, weight=weight, ignore_index=ignore_index, label_smoothing=label_smoothing, reduction=reduction
        )
