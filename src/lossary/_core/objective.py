"""What every objective is (a module with a link), and the one rule for targets, weights and means.

The rule, for a loss that is a mean of per-sample terms with l(c) the loss if the class is c: a target distribution q
costs ``sum_c q_c w_c l(c)``. Everything else (hard labels, label smoothing, class weights, ignored samples) follows from
it and lives here, so that a loss only has to write l(c).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lossary._core.checks import check_broadcast
from lossary._core.parameters import Numbers, domains, shown


class Objective(nn.Module, ABC):
    """A training objective: ``loss(output, target)`` on raw outputs, and ``link(output)``, the prediction it stands for.

    A subclass hands its hyper-parameters to this constructor, which keeps them as attributes, and those that may be tensors as
    buffers. What they may be stands in the annotations of the subclass's constructor, which checks them once it is registered.
    """

    function: ClassVar[Callable[..., Tensor]]  # the pure function of the same maths; set where the class is registered
    name: ClassVar[str]
    consumes: ClassVar[str | tuple[str, ...]] = "logits"
    requires: tuple[str, ...] = ()  # what forward wants by keyword; an instance may want other things than its class

    def __init__(self, **hyperparameters: object):
        super().__init__()
        self._hyperparameter_names = tuple(hyperparameters)
        tensors = {name for name, (domain, _) in domains(type(self).__init__).items() if isinstance(domain, Numbers)}
        for name, value in hyperparameters.items():
            if isinstance(value, Tensor) or (value is None and name in tensors):
                self.register_buffer(name, value)
            else:
                setattr(self, name, value)

    def hyperparameters(self) -> dict[str, object]:
        """What the constructor was given, by name."""
        own, buffers = self.__dict__, self._buffers  # asked for at every call, and a module's own way to a buffer takes long
        found = {}
        for name in self._hyperparameter_names:
            found[name] = buffers[name] if name in buffers else own[name] if name in own else getattr(self, name)
        return found

    def reset_parameters(self) -> None:
        """Start own weights and memory anew, as the constructor does, such as after ``to_empty``.

        What the caller gave as tensors, such as the weights of the classes, is not own state and stays as it is.
        """

    @abstractmethod
    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Compute the loss of a batch: ``loss(output, target)``, with what ``requires`` names by keyword."""

    @abstractmethod
    def link(self, output: Tensor) -> Tensor:
        """The prediction that a raw output stands for, such as probabilities for logits."""

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={shown(value)}" for name, value in self.hyperparameters().items())


class SoftmaxObjective(Objective):
    """One class of several: logits (N, C, *), linked to probabilities by the softmax over dimension 1."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of logits (N, C, *) for a target of class indices (N, *) or of probabilities (N, C, *)."""
        return self.function(logits, target, **self.hyperparameters())

    def link(self, output: Tensor) -> Tensor:
        return output.softmax(1)


class SigmoidObjective(Objective):
    """Independent yes-or-no labels: logits of any shape, linked to probabilities by the sigmoid."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of logits (N, L, *) for a target in [0, 1] of the same shape."""
        return self.function(logits, target, **self.hyperparameters())

    def link(self, output: Tensor) -> Tensor:
        return output.sigmoid()


class IdentityObjective(Objective):
    """Regression: the output is the prediction."""

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of a prediction (N, *) for a target of the same shape."""
        return self.function(prediction, target, **self.hyperparameters())

    def link(self, output: Tensor) -> Tensor:
        return output


@torch.no_grad()
def reset_directions(weight: Tensor) -> None:
    """Draw the rows of a weight (C, D) from a normal distribution, so that their expected squared length is 1."""
    weight.normal_().div_(weight.shape[1] ** 0.5)


def widen(output: Tensor) -> Tensor:
    """Half precision becomes float32, and so does the loss: squares, sums and exponentials of allowed inputs do not fit
    into float16, and the gradient returns to the input's own dtype anyway. Other dtypes stay as they are."""
    return output.float() if output.dtype in (torch.float16, torch.bfloat16) else output


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """A context in which operations on the device of x keep their dtypes; the meta device knows no autocast."""
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)


def double(values: Tensor) -> Tensor:
    """Values in float64, or in float32 on Apple's GPUs, which have no float64."""
    return values.to(double_dtype(values.device))


def double_dtype(device: torch.device) -> torch.dtype:
    """The most precise dtype of a device."""
    return torch.float32 if device.type == "mps" else torch.float64


def log_softmax(logits: Tensor) -> Tensor:
    """The log-softmax over dimension 1, written out: with few classes and many samples this takes a quarter of the time
    of the library's kernel, which works row by row."""
    shifted = logits - logits.detach().amax(1, keepdim=True)
    return shifted - shifted.exp().sum(1, keepdim=True).log()


def reduce(per_item: Tensor, divisor: Tensor | int, reduction: str) -> Tensor:
    """``none``, ``sum``, or the sum over a divisor; nothing to average over is 0 and still carries a gradient of zeros."""
    if reduction == "none":
        return per_item
    if reduction == "mean" and not isinstance(divisor, Tensor) and divisor == per_item.numel() > 0:  # a size may be a symbol
        return per_item.mean()
    total = per_item.sum()
    if reduction == "sum":
        return total
    if not isinstance(divisor, Tensor):
        return total / max(divisor, 1)
    return total / torch.where(divisor == 0, torch.ones_like(divisor), divisor)


def is_ignored(target: Tensor, ignore_index: int) -> Tensor:
    r"""Mask of the elements that equal ``ignore_index``, for a target (N, \*) of any dtype.

    PyTorch casts the number to the tensor's dtype before it compares, so that the uint8 label 156 equals -100. An integer
    dtype that cannot hold the number has no element that equals it.
    """
    dtype = target.dtype
    if dtype is torch.int64 or dtype.is_floating_point or dtype is torch.bool:
        return target == ignore_index
    bounds = torch.iinfo(dtype)
    if bounds.min <= ignore_index <= bounds.max:
        return target == ignore_index
    return torch.zeros_like(target, dtype=torch.bool)


def class_indices(target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    r"""Class indices (N, \*) as int64 with 0 in the place of ignored ones, and the mask of those."""
    ignored = is_ignored(target, ignore_index)
    return target.long().masked_fill(ignored, 0), ignored


def average_over_classes(
    if_class: Tensor,
    target: Tensor,
    *,
    weight: Tensor | None,
    ignore_index: int,
    label_smoothing: float,
    reduction: str,
) -> Tensor:
    """Apply the rule to l(c), given for every class as ``if_class`` (N, C, *)."""
    num_classes = if_class.shape[1]
    weight = None if weight is None else weight.to(if_class.dtype)
    weighted = if_class if weight is None else if_class * weight.view(-1, *[1] * (if_class.ndim - 2))
    if target.is_floating_point():
        q = target.to(if_class.dtype)
        if label_smoothing:
            q = q * (1 - label_smoothing) + label_smoothing / num_classes
        per_sample = torch.where(q == 0, 0.0, q * weighted).sum(1)  # a class masked by -inf may have an infinite cost
        return reduce(per_sample, per_sample.numel(), reduction)
    index, ignored = class_indices(target, ignore_index)
    per_sample = weighted.gather(1, index.unsqueeze(1)).squeeze(1)
    if label_smoothing:
        per_sample = per_sample * (1 - label_smoothing) + weighted.mean(1) * label_smoothing
    return average_over_kept(per_sample, index, ignored, weight, reduction)


def average_over_kept(per_sample: Tensor, index: Tensor, ignored: Tensor, weight: Tensor | None, reduction: str) -> Tensor:
    """The mean of the samples that are not ignored, over the sum of their classes' weights."""
    kept = per_sample.masked_fill(ignored, 0.0)
    if reduction != "mean":
        return reduce(kept, 1, reduction)
    if weight is None:
        return kept.sum() / (~ignored).sum().clamp_min(1)
    return reduce(kept, weight[index].masked_fill(ignored, 0.0).sum(), reduction)


def average_over_elements(owner: str, per_element: Tensor, *, weight: Tensor | None, reduction: str) -> Tensor:
    """The mean of a regression loss over its elements; with a weight it divides by the sum of the weights."""
    check_broadcast(owner, "weight", weight, per_element)
    if weight is None:
        return reduce(per_element, per_element.numel(), reduction)
    spread = weight.to(per_element.dtype).expand_as(per_element)
    return reduce(per_element * spread, spread.sum(), reduction)
