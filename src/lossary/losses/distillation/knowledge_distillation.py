"""Knowledge distillation: the student gives the teacher's softened probabilities, beside the labels."""

import torch
from torch import Tensor

from lossary._core.objective import Objective, log_softmax, reduce, widen
from lossary._core.parameters import Fraction, Positive, Reduction, formula
from lossary._core.registry import objective
from lossary.losses.distillation._common import check_logits, cross_entropy_of_each, wide_like


@formula
def knowledge_distillation(
    student: Tensor,
    teacher: Tensor,
    target: Tensor | None = None,
    *,
    temperature: Positive = 4.0,
    alpha: Fraction = 0.9,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`KnowledgeDistillationLoss`, with the same parameters."""
    check_logits("knowledge_distillation", student, teacher, target)
    wide = widen(student)
    log_t, log_s = (log_softmax(z / temperature) for z in (wide_like(teacher, wide), wide))
    gone = log_t == -torch.inf  # a class that the teacher masks costs nothing
    apart = log_t.masked_fill(gone, 0.0) - log_s.masked_fill(gone, 0.0)
    per_sample = alpha * temperature**2 * (log_t.exp() * apart).sum(1)
    if target is not None:
        per_sample = per_sample + (1 - alpha) * cross_entropy_of_each(wide, target)
    return reduce(per_sample, per_sample.numel(), reduction)


@objective(
    family="distillation",
    function=knowledge_distillation,
    aliases=("kd",),
    tune={"temperature": (1.0, 8.0), "alpha": (0.1, 1.0)},
)
class KnowledgeDistillationLoss(Objective):
    r"""Knowledge distillation: the student gives the teacher's softened probabilities, beside the labels.

    .. math::
        \ell(s, t, y) = \alpha\,T^2\,\mathrm{KL}\bigl(\mathrm{softmax}(t / T) \,\|\, \mathrm{softmax}(s / T)\bigr)
        + (1 - \alpha)\,\mathrm{CE}(s, y)

    The temperature brings out what the teacher says about the wrong classes; its square keeps the size of the gradient. No
    gradient reaches the teacher. Without a target only the first term is left, with its factor. For large T the term tends to that
    of matched logits, the squared distance of centred logits over 2 C.

    Args:
        temperature: T, divides both logits.
        alpha: the share of the teacher; 1 - alpha is that of the labels.
        reduction: ``mean``, ``sum`` or ``none``; the mean is over all samples.
    Shape: student and teacher logits (N, C, \*), -inf where both mask a class;
        target (N, \*) class indices or None, -100 where there is no label.
    Units: nats, times the square of the temperature.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015; the default shares are those that later
        work on CIFAR uses with T = 4.

    >>> loss = KnowledgeDistillationLoss(alpha=1.0, temperature=1.0)
    >>> loss(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 2.0]]))
    tensor(0.3278)
    """

    def __init__(self, *, temperature: Positive = 4.0, alpha: Fraction = 0.9, reduction: Reduction = "mean"):
        super().__init__(temperature=temperature, alpha=alpha, reduction=reduction)

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor | None = None) -> Tensor:
        return self.function(student, teacher, target, **self.hyperparameters())

    def link(self, output: Tensor) -> Tensor:
        return output.softmax(1)
