"""Set cross-entropy: each member of a set by the slot that suits it best."""

import torch
from torch import Tensor

from lossary._core.checks import check_floating, check_integers, shape_text
from lossary._core.objective import Objective, class_indices, widen
from lossary._core.parameters import Reduction, formula
from lossary._core.registry import objective
from lossary._fast import dispatch
from lossary._fast.classes.rule import average_over_rows
from lossary.errors import InvalidValueError
from lossary.losses.sets._assignment import assign


@formula
def set_cross_entropy(logits: Tensor, target: Tensor, *, ignore_index: int = -100, reduction: Reduction = "mean") -> Tensor:
    """The pure function behind :class:`SetCrossEntropyLoss`, with the same parameters."""
    owner = "set_cross_entropy"
    check_floating(owner, "logits", logits)
    check_integers(owner, "target", target)
    if logits.ndim != 3:
        raise InvalidValueError(f"{owner}: logits must have shape (N, S, V), got {shape_text(tuple(logits.shape))}")
    samples, slots, _ = logits.shape
    if target.ndim != 2 or target.shape[0] != samples or target.shape[1] > slots:
        given = shape_text(tuple(target.shape))
        raise InvalidValueError(f"{owner}: target must have shape ({samples}, T) with T <= {slots} slots, got {given}")
    index, absent = class_indices(target, ignore_index)
    real = ~absent
    slot = assign(_costs(logits.detach(), index), real)
    # the class of each slot; what has no slot goes to one more, which is cut off
    wanted = index.new_full((samples, slots + 1), ignore_index)
    wanted = wanted.scatter(1, torch.where(real, slot, slots), index)[:, :slots]
    each = average_over_rows(
        logits.movedim(2, 1),
        wanted,
        lambda row: -row.log_p,
        weight=None,
        ignore_index=ignore_index,
        label_smoothing=0.0,
        reduction=reduction,
    )
    return each.sum(1) if reduction == "none" else each


def _costs(logits: Tensor, target: Tensor) -> Tensor:
    """-log p of each member in each slot (N, T, S)."""
    of_members = widen(logits.gather(2, target.unsqueeze(1).expand(-1, logits.shape[1], -1))).transpose(1, 2)
    if dispatch.take_plain_operations(logits):
        log_sums = widen(logits).logsumexp(2)
    else:
        log_sums = torch.cat([widen(logits[rows]).logsumexp(2) for rows in dispatch.of_rows(logits)])
    return log_sums.unsqueeze(1) - of_members


@objective(family="sets", function=set_cross_entropy, soft_targets=False, spatial=False)
class SetCrossEntropyLoss(Objective):
    r"""Set cross-entropy: the cross-entropy of the best assignment of a set's members to the slots of the output.

    .. math:: \ell(z, X) = \min_\pi \sum_{t} -\log \mathrm{softmax}(z_{\pi(t)})_{x_t}

    the minimum being over the ways to give each of T members a slot of its own among S. Slots are independent of each other given
    the input, so that the best of all orders is an assignment and is found exactly; it is a constant to the gradient. Slots
    that are left over are not trained: a class for "nothing" among the members does that.

    Args:
        ignore_index: the target of places without a member, which may stand anywhere.
        reduction: ``"mean"`` over all members, ``"sum"``, or ``"none"``, which gives the sum over each set.
    Shape: logits (N, S, V); target (N, T) class indices, T <= S.
    Units: nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Vinyals, Bengio and Kudlur, "Order Matters: Sequence to Sequence for Sets", 2015: its search over orders where outputs
        are independent given the input.

    >>> logits = torch.tensor([[[0.0, 3.0, 0.0], [3.0, 0.0, 0.0]]])
    >>> SetCrossEntropyLoss()(logits, torch.tensor([[0, 1]]))
    tensor(0.0949)
    """

    def __init__(self, *, ignore_index: int = -100, reduction: Reduction = "mean"):
        super().__init__(ignore_index=ignore_index, reduction=reduction)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return self.function(logits, target, **self.hyperparameters())

    def link(self, output: Tensor) -> Tensor:
        return output.softmax(-1)
