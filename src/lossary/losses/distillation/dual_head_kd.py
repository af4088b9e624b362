"""Dual-head distillation: labels teach one head, the teacher's logits another, on one backbone."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lossary._core.checks import check_floating, check_shape, check_tensor
from lossary._core.objective import Objective, double, reduce, widen
from lossary._core.parameters import NonNegative, Positive, Reduction, formula
from lossary._core.registry import objective
from lossary.errors import InvalidValueError
from lossary.losses.distillation._common import check_logits, cross_entropy_of_each, wide_like
from lossary.losses.regression.log_cosh import log_cosh


@formula
def dual_head_kd(
    student: Tensor,
    teacher: Tensor,
    target: Tensor | None = None,
    auxiliary: Tensor | None = None,
    *,
    alpha: NonNegative = 1.0,
    gamma: NonNegative = 1.0,
    temperature: Positive = 2.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`DualHeadKDLoss`, with the same parameters."""
    check_logits("dual_head_kd", student, teacher, target)
    if auxiliary is not None:
        check_tensor("dual_head_kd", "auxiliary", auxiliary)
        check_floating("dual_head_kd", "auxiliary", auxiliary)
        check_shape("dual_head_kd", "auxiliary", auxiliary, tuple(student.shape))
    main = widen(student)
    taught = main if auxiliary is None else widen(auxiliary).to(main.dtype)
    half = 1 / (2 * temperature)  # the divergence of one half from sigmoid(u) is log cosh(u / 2)
    taught_by = wide_like(teacher, main)
    masked = (taught == -torch.inf) | (taught_by == -torch.inf)  # a class that is not there costs nothing
    ours, theirs = (z.masked_fill(masked, 0.0) * half for z in (taught, taught_by))
    per_sample = alpha * temperature**2 * log_cosh(ours, theirs, reduction="none").sum(1)
    if target is not None:
        per_sample = per_sample + gamma * cross_entropy_of_each(main, target)
    elif auxiliary is not None:
        per_sample = per_sample + 0.0 * main.sum(1)  # of the graph all the same
    return reduce(per_sample, per_sample.numel(), reduction)


def align_gradients(task: Sequence[Tensor | None], distill: Sequence[Tensor | None]) -> list[Tensor | None]:
    r"""The gradient of a distillation loss without the part of it that opposes the gradient of the task.

    .. math:: g_{kd} \leftarrow g_{kd} - \frac{\min(g_{kd} \cdot g_{ce}, 0)}{\lVert g_{ce} \rVert^2} g_{ce}

    with one product over all parameters together. The sum of ``task`` and of what is returned is the gradient to step along.

    Args:
        task: the gradient of the label loss for each parameter, None where it has none.
        distill: the gradient of the distillation loss for the same parameters.

    >>> align_gradients([torch.tensor([1.0, 0.0])], [torch.tensor([-2.0, 3.0])])
    [tensor([0., 3.])]
    """
    if len(task) != len(distill):
        raise InvalidValueError(f"align_gradients: distill must have {len(task)} gradients, as task has, got {len(distill)}")
    of_both = [(double(g), double(d)) for g, d in zip(task, distill, strict=True) if g is not None and d is not None]
    squares = [double(g).square().sum() for g in task if g is not None]
    if not of_both:
        return list(distill)
    product = torch.stack([(g * d).sum() for g, d in of_both]).sum()
    length = torch.stack(squares).sum()
    opposed = torch.where(length > 0, product.clamp_max(0.0) / torch.where(length > 0, length, 1.0), 0.0)
    return [
        d if g is None else -(opposed * g).to(g.dtype) if d is None else d - (opposed * g).to(d.dtype)
        for g, d in zip(task, distill, strict=True)
    ]


@objective(
    family="distillation",
    function=dual_head_kd,
    tune={"alpha": (0.05, 5.0), "temperature": (1.0, 8.0)},
)
class DualHeadKDLoss(Objective):
    r"""Dual-head distillation: labels teach the main head, the teacher's logits an auxiliary one, on one backbone.

    .. math::
        \ell = \gamma\,\mathrm{CE}(s, y) + \alpha\,T^2 \sum_c \mathrm{KL}\bigl(\tfrac{1}{2} \,\|\, \sigma((a_c - t_c) / T)\bigr)

    with main logits s, auxiliary logits a and teacher's logits t. The second term is 0 where a = t only, an eighth of the squared
    distance near it, whatever T is, and T |a - t| / 2 for each class far out. It is written without the logarithm of a sigmoid,
    which in the authors' program has no gradient at large distances and can become infinite. Labels have no gradient in the
    auxiliary head, the teacher has none in the main one, and nothing reaches the teacher. ``lossary.nn.DualHead`` gives both
    heads; predictions are those of the main one. ``functional.align_gradients`` takes from the gradient of the second term what
    opposes that of the first, which the authors do in some of their experiments.

    Args:
        alpha: the weight of the distillation term; the authors use 0.1 for ImageNet.
        gamma: the weight of the label term.
        temperature: T, divides the distance of the logits.
        reduction: ``mean``, ``sum`` or ``none``; the mean is over all samples, the sum over classes stays.
    Shape: student, teacher and auxiliary logits (N, C, \*); target (N, \*) class indices or None, -100 where there is no label.
        Without auxiliary logits both terms act on the student's, the baseline which the paper says is worse than either term alone.
    Units: nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Yang, Zong, Huang, Feng and An, "Dual-Head Knowledge Distillation: Enhancing Logits Utilization with an Auxiliary
        Head", 2024.

    >>> loss = DualHeadKDLoss(temperature=1.0)
    >>> main, auxiliary, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.0]])
    >>> loss(main, teacher, torch.tensor([0]), auxiliary)  # log 2 and log cosh(1)
    tensor(1.1269)
    """

    def __init__(
        self,
        *,
        alpha: NonNegative = 1.0,
        gamma: NonNegative = 1.0,
        temperature: Positive = 2.0,
        reduction: Reduction = "mean",
    ):
        super().__init__(alpha=alpha, gamma=gamma, temperature=temperature, reduction=reduction)

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor | None = None, auxiliary: Tensor | None = None) -> Tensor:
        return self.function(student, teacher, target, auxiliary, **self.hyperparameters())

    def link(self, output: Tensor) -> Tensor:
        return output.softmax(1)
