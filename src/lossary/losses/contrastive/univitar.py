"""UniViTAR's first stage: sigmoid contrast, and a frozen teacher's features."""

import torch
from torch import Tensor, nn

from lossary._core.checks import check_floating, check_shape, shape_text
from lossary._core.objective import Objective, widen
from lossary._core.parameters import NonNegative, PositiveCount, Real, Reduction, formula
from lossary._core.registry import objective
from lossary._fast.pairs.rule import unit
from lossary._fast.pairs.tiles import Scores, paired_inputs, sigmoid_contrast
from lossary.distributed import Group, Ring
from lossary.errors import InvalidValueError
from lossary.losses.contrastive._common import direction, squares_on_the_sphere
from lossary.losses.contrastive.siglip import LOG_SCALE


@formula
def univitar(
    a: Tensor,
    b: Tensor,
    log_scale: Tensor,
    bias: Tensor,
    student: Tensor | None = None,
    teacher: Tensor | None = None,
    *,
    distill_weight: NonNegative = 1.0,
    group: Group = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`UniViTARLoss`, with scale and bias as ``siglip`` has them, and features of one width."""
    x, y = paired_inputs("univitar", a, b)
    if student is not None:
        _check_features(student, teacher, a)
    scores = Scores(x, y, log_scale, bias, Ring("univitar", y, group))
    contrast = scores.reduced(sigmoid_contrast(scores, summed=reduction != "none"), reduction)
    if student is None or teacher is None:
        return contrast
    apart = squares_on_the_sphere(unit(widen(student)), unit(widen(teacher.detach()))) / 2
    distance = distill_weight * (apart.flatten(1).mean(1) if apart.ndim > 1 else apart)
    if reduction != "none":
        distance = scores.ring.reduced(distance.sum(), reduction)
    return contrast + distance


def _check_features(student: Tensor, teacher: Tensor | None, a: Tensor) -> None:
    check_floating("univitar", "student", student)
    if teacher is None:
        raise InvalidValueError("univitar: teacher must be given with student, got None")
    check_floating("univitar", "teacher", teacher)
    if student.ndim < 2 or student.shape[0] != a.shape[0]:
        raise InvalidValueError(f"univitar: student must have shape ({a.shape[0]}, *, E), got {shape_text(tuple(student.shape))}")
    check_shape("univitar", "teacher", teacher, tuple(student.shape))


@objective(
    family="contrastive",
    function=univitar,
    soft_targets=False,
    decomposable=False,
    spatial=False,
    link="scores",
    distributed="inexact",
)
class UniViTARLoss(Objective):
    r"""UniViTAR's first stage: sigmoid contrast, and a frozen teacher's features.

    .. math::
        L = L_\mathrm{SigLIP}(a, b) + \frac{\lambda}{N} \sum_i \mathrm{mean}_k \left( 1 - \cos(f_{ik}, g_{ik}) \right)

    Beside the contrast of images a with texts b (``siglip``), features f of the student are turned to those of a frozen teacher g,
    which get no gradient. The paper does not print distance and weight: the cosine, averaged over all positions k of a sample, and
    a weight of 1 are this library's reading. Scale, bias and projector are parameters of this loss.

    Args:
        distill_weight: the weight lambda of the teacher; 0 is ``siglip``.
        init_log_scale, init_bias: where the logarithm of the scale and the bias start.
        student_dim, teacher_dim: widths of the features; if both are given, a linear layer of this loss takes the student's to the
            teacher's.
        group: the processes whose items are negatives too: None for this one alone, ``"world"``, or a process group. The mean over
            them of the loss and of its gradients is that of one process with the whole batch, so all have to weigh the loss alike.
        reduction: as in :class:`torch.nn.CrossEntropyLoss`; ``"none"`` gives the loss of each row.
    Shape: a and b (N, D); student (N, \*, E) and teacher of the same shape, or of width ``teacher_dim``; without both, ``siglip``.
    Units: nats, plus cosines.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Qiao and others, "UniViTAR: Unified Vision Transformer with Native Resolution", 2025.

    >>> x = torch.eye(2)
    >>> loss = UniViTARLoss(init_log_scale=0.0, init_bias=0.0)
    >>> float((loss(x, x, student=x, teacher=-x) - loss(x, x)).detach())
    2.0
    """

    consumes = "embedding"
    log_scale: Tensor
    bias: Tensor
    init_log_scale: float
    init_bias: float

    def __init__(
        self,
        *,
        distill_weight: NonNegative = 1.0,
        init_log_scale: Real = LOG_SCALE,
        init_bias: Real = -10.0,
        student_dim: PositiveCount | None = None,
        teacher_dim: PositiveCount | None = None,
        group: Group = None,
        reduction: Reduction = "mean",
    ):
        super().__init__(
            distill_weight=distill_weight,
            init_log_scale=init_log_scale,
            init_bias=init_bias,
            student_dim=student_dim,
            teacher_dim=teacher_dim,
            group=group,
            reduction=reduction,
        )
        if (student_dim is None) != (teacher_dim is None):
            missing = "student_dim" if student_dim is None else "teacher_dim"
            raise InvalidValueError(f"univitar: {missing} must be given with the other width, got None")
        self.log_scale = nn.Parameter(torch.empty(()))
        self.bias = nn.Parameter(torch.empty(()))
        self.projector = None if student_dim is None or teacher_dim is None else nn.Linear(student_dim, teacher_dim)
        self._reset_own()

    def reset_parameters(self) -> None:
        self._reset_own()
        if self.projector is not None:
            self.projector.reset_parameters()

    def _reset_own(self) -> None:
        nn.init.constant_(self.log_scale, self.init_log_scale)
        nn.init.constant_(self.bias, self.init_bias)

    def forward(self, a: Tensor, b: Tensor, student: Tensor | None = None, teacher: Tensor | None = None) -> Tensor:
        given = self.hyperparameters()
        shared = {name: given[name] for name in ("distill_weight", "group", "reduction")}
        if student is not None and self.projector is not None:
            student = self.projector(student)
        return self.function(a, b, self.log_scale, self.bias, student, teacher, **shared)

    def link(self, output: Tensor) -> Tensor:
        return direction(output)
