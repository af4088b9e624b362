"""What losses of several labels for each row share."""

import torch
from torch import Tensor

from lossary._core.checks import check_element_inputs, check_floating, shape_text
from lossary._core.objective import reduce
from lossary.errors import InvalidValueError


def check_rows_of_labels(owner: str, logits: Tensor, target: Tensor, above: int = 0) -> None:
    """logits (N, L) and target (N, L), with more than a number of labels."""
    check_floating(owner, "logits", logits)
    if logits.ndim != 2:
        raise InvalidValueError(f"{owner}: logits must have shape (N, L), got {shape_text(tuple(logits.shape))}")
    if logits.shape[1] <= above:
        raise InvalidValueError(f"{owner}: logits must have more than {above} labels in dimension 1, got {logits.shape[1]}")
    check_element_inputs(owner, logits, target)


def positives(logits: Tensor, target: Tensor) -> Tensor:
    """Mask of the labels (N, L) whose target is above 0; a label with a logit of -inf is not there."""
    above = target > 0 if target.dtype.is_signed else target.bool()  # unsigned integers wider than a byte have no comparison
    return above & (logits != -torch.inf)


def average_over_positives(per_row: Tensor, count: Tensor, positive_reduction: str, reduction: str) -> Tensor:
    """The mean or the sum over the positive labels of each row, from their sum and their number, then over the rows; those
    without any are left out."""
    if positive_reduction == "mean":
        per_row = per_row / count.clamp_min(1)
    return reduce(per_row, (count > 0).sum(), reduction)
