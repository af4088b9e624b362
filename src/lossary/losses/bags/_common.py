"""What losses of bags share: their inputs, means within bags, and the link."""

from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from lossary._core.checks import check_floating, check_integers, check_shape, check_tensor, shape_text
from lossary._core.objective import Objective, reduce, widen
from lossary._core.parameters import OneOf
from lossary.errors import InvalidTypeError, InvalidValueError

Base = Annotated[Literal["squared", "bce"], OneOf(("squared", "bce"))]


class BagObjective(Objective):
    """Predictions (N,) of samples in bags, linked to values or, for ``base="bce"``, to probabilities by the sigmoid."""

    requires = ("bag",)
    base: str

    def forward(self, prediction: Tensor, target: Tensor, bag: Tensor) -> Tensor:
        """Compute the loss of predictions (N, *) for the targets of their bags, whose numbers are ``bag`` (N,)."""
        return self.function(prediction, target, bag, **self.hyperparameters())

    def link(self, output: Tensor) -> Tensor:
        return output.sigmoid() if self.base == "bce" else output


def check_bags(owner: str, prediction: Tensor, target: Tensor, bag: Tensor) -> None:
    """prediction (N,), target (num_bags,), and the bag of each sample (N,)."""
    check_floating(owner, "prediction", prediction)
    check_tensor(owner, "target", target)
    if prediction.ndim != 1:
        raise InvalidValueError(f"{owner}: prediction must have shape (N,), got {shape_text(tuple(prediction.shape))}")
    if target.ndim != 1:
        raise InvalidValueError(f"{owner}: target must have shape (num_bags,), got {shape_text(tuple(target.shape))}")
    if target.is_complex():
        raise InvalidTypeError(f"{owner}: target must be real, got {target.dtype}")
    check_integers(owner, "bag", bag)
    check_shape(owner, "bag", bag, tuple(prediction.shape))


def bag_losses(prediction: Tensor, target: Tensor, bag: Tensor, base: str) -> tuple[Tensor, Tensor]:
    """The loss of each bag's mean prediction, and which bags there are in the batch."""
    bag = bag.long()  # small integers cannot index everything
    wide, size = widen(prediction), sizes(prediction, target, bag)
    present = size > 0
    if base == "squared":
        mean = mean_within(wide, bag, size)
        return (mean - target.to(mean.dtype)).square(), present
    q = target.to(wide.dtype)
    yes, no = (log_mean_exp(logsigmoid(sign * wide), bag, size) for sign in (1, -1))
    return -(q * yes + (1 - q) * no), present


def instance_losses(prediction: Tensor, target: Tensor, bag: Tensor, base: str) -> tuple[Tensor, Tensor]:
    """The mean within each bag of its samples' losses against the bag's target, and which bags there are in the batch."""
    bag = bag.long()
    wide, size = widen(prediction), sizes(prediction, target, bag)
    own = target.to(wide.dtype)[bag]
    each = (wide - own).square() if base == "squared" else softplus(wide) - own * wide
    return mean_within(each, bag, size), size > 0


def over_bags(per_bag: Tensor, present: Tensor, reduction: str) -> Tensor:
    """The sum or the mean over the bags that have a sample in the batch."""
    return reduce(per_bag.masked_fill(~present, 0.0), present.sum().to(per_bag.dtype), reduction)


def sizes(prediction: Tensor, target: Tensor, bag: Tensor) -> Tensor:
    """How many samples of each bag are in the batch."""
    wide = torch.promote_types(prediction.dtype, torch.float32)
    ones = torch.ones(bag.shape, dtype=wide, device=bag.device)
    return torch.zeros(target.shape, dtype=wide, device=bag.device).index_add(0, bag, ones)


def mean_within(each: Tensor, bag: Tensor, size: Tensor) -> Tensor:
    return torch.zeros_like(size).index_add(0, bag, each) / size.clamp_min(1)


def log_mean_exp(each: Tensor, bag: Tensor, size: Tensor) -> Tensor:
    """The logarithm of the mean of exponentials within each bag; of an absent bag it is 0."""
    lowest = torch.full_like(size, -torch.inf)
    largest = lowest.scatter_reduce(0, bag, each.detach(), "amax").masked_fill(size == 0, 0.0)
    mean = mean_within((each - largest[bag]).exp(), bag, size)
    return largest + mean.masked_fill(size == 0, 1.0).log()
