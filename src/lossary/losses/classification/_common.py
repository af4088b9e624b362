"""What several multi-class losses share."""

import math
from typing import Annotated

import torch
from torch import Tensor

from lossary._core.objective import class_indices, is_ignored
from lossary._core.parameters import Interval
from lossary._fast.dispatch import can_look

IGNORED = -100  # the class of samples that are left out, in losses without a parameter for it
Exponent = Annotated[float, Interval(low=1.0)]


def power(base: Tensor, exponent: float) -> Tensor:
    """base ** exponent for a base in [0, 1]; a fractional exponent has an infinite slope at 0, which this leaves out."""
    return (base if float(exponent).is_integer() else base.clamp_min(torch.finfo(base.dtype).tiny)).pow(exponent)


def without_ignored(output: Tensor, target: Tensor, ignore_index: int) -> Tensor:
    """The output (N, C, *) with zeros for samples that are left out: they may be anything, and 0 times NaN would be NaN in their
    gradient and in that of weights."""
    if target.is_floating_point():
        return output
    ignored = is_ignored(target, ignore_index)
    if can_look(ignored) and not bool(ignored.any()):
        return output
    return output.masked_fill(ignored.unsqueeze(1), 0.0)


def masses(target: Tensor, like: Tensor, ignore_index: int, label_smoothing: float) -> tuple[Tensor, Tensor]:
    """The target as the mass of each class (N, C, *), zeros for ignored samples; and which samples are kept (N, 1, *)."""
    num_classes = like.shape[1]
    if target.is_floating_point():
        q, kept = target.to(like.dtype), torch.ones_like(like[:, :1], dtype=torch.bool)
    else:
        index, ignored = class_indices(target.unsqueeze(1), ignore_index)
        q, kept = torch.zeros_like(like).scatter(1, index, 1.0), ~ignored
    if label_smoothing:
        q = q * (1 - label_smoothing) + label_smoothing / num_classes
    return q.masked_fill(~kept, 0.0), kept


def classes_exist(target: Tensor, classes: int, ignore_index: int) -> bool:
    """Decides whether class indices that are not ignored are all from 0 to classes - 1; a loop over an array would not notice."""
    from lossary._fast.mathematics import counted  # which imports Numba

    labels = target.detach().long().contiguous().view(-1).numpy()
    return not math.isnan(counted(labels, classes, ignore_index, None))
