"""What losses of groups share: a loss for each sample, and its mean within each group."""

from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.nn.functional import one_hot, softplus

from lossary._core.checks import check_class_inputs, check_element_inputs, check_integers, check_shape, shape_text
from lossary._core.objective import Objective, is_ignored, widen
from lossary._core.parameters import OneOf
from lossary.errors import InvalidTypeError, InvalidValueError
from lossary.losses.classification._common import IGNORED, without_ignored
from lossary.losses.classification.cross_entropy import cross_entropy

Base = Annotated[Literal["auto", "cross_entropy", "bce"], OneOf(("auto", "cross_entropy", "bce"))]


class GroupObjective(Objective):
    """Logits (N,) of a yes-or-no question or (N, C) of classes, and the group of each sample."""

    requires = ("group",)
    base: str

    def forward(self, logits: Tensor, target: Tensor, group: Tensor) -> Tensor:
        """Compute the loss of logits (N, C, *) for a target (N, *), with the group (N,) of each sample."""
        return self.function(logits, target, group, **self.hyperparameters())

    def link(self, output: Tensor) -> Tensor:
        return output.sigmoid() if output.ndim == 1 or self.base == "bce" else output.softmax(1)


def check_groups(owner: str, logits: Tensor, target: Tensor, group: Tensor) -> None:
    """logits (N,) with target (N,) in [0, 1], or logits (N, C) as for cross-entropy; group (N,)."""
    if isinstance(logits, Tensor) and logits.ndim == 1:
        check_element_inputs(owner, logits, target)
        if not target.is_floating_point():
            raise InvalidTypeError(
                f"{owner}: target must be floating point where logits have the shape {shape_text(tuple(logits.shape))}, "
                f"got {target.dtype}"
            )
    else:
        check_class_inputs(owner, logits, target, None)
        if logits.ndim != 2:
            raise InvalidValueError(f"{owner}: logits must have shape (N,) or (N, C), got {shape_text(tuple(logits.shape))}")
    check_integers(owner, "group", group)
    check_shape(owner, "group", group, (logits.shape[0],))


def sample_losses(logits: Tensor, target: Tensor, base: str) -> tuple[Tensor, Tensor]:
    """The base loss of each sample (N,), and which samples count; one that does not (its class is -100) costs 0."""
    logits = without_ignored(logits, target, IGNORED)
    wide = widen(logits)
    kept = torch.ones(logits.shape[:1], dtype=torch.bool, device=logits.device)
    if not target.is_floating_point():
        kept = ~is_ignored(target, IGNORED)
    if logits.ndim == 1:  # both bases are the same for two classes
        return softplus(wide) - target.to(wide.dtype) * wide, kept
    if base != "bce":
        return cross_entropy(logits, target, ignore_index=IGNORED, reduction="none"), kept
    q = target if target.is_floating_point() else one_hot(target.long().masked_fill(~kept, 0), logits.shape[1])
    there = wide != -torch.inf  # a class that is masked does not count as one
    z = wide.masked_fill(~there, 0.0)
    costs = (softplus(z) - q.to(z.dtype) * z).masked_fill(~there, 0.0).sum(1) / there.sum(1).clamp_min(1)
    return costs.masked_fill(~kept, 0.0), kept


def mean_within_groups(each: Tensor, kept: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
    """Means of the groups in the batch, in a vector as long as the batch, and which of its places are a group.

    Groups may have any numbers. They are numbered anew by sorting, so that no size depends on a value.
    """
    order = group.argsort(stable=True)
    ascending = group[order]
    starts = torch.cat([torch.zeros_like(ascending[:1]), (ascending[1:] != ascending[:-1]).to(ascending.dtype)])
    place = starts.cumsum(0)
    zeros = torch.zeros_like(each)
    size = zeros.index_add(0, place, kept[order].to(each.dtype))
    return zeros.index_add(0, place, each[order]) / size.clamp_min(1), size > 0
