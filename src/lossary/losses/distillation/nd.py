"""Norm and direction: a student's features point to the teacher's class mean, and become as long as the teacher's."""

from typing import Any

import torch
from torch import Tensor

from lossary._core.checks import check_floating, check_integers, check_shape, shape_text
from lossary._core.objective import Objective, double, double_dtype, reduce, widen
from lossary._core.parameters import NonNegative, PositiveCount, Reduction, Vector, formula
from lossary._core.registry import objective
from lossary._core.values import check_indices
from lossary._fast.pairs.rule import unit
from lossary.errors import InvalidValueError


@formula
def nd(
    student: Tensor,
    teacher: Tensor,
    target: Tensor,
    class_means: Tensor | None,
    *,
    weight: NonNegative = 1.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`NDLoss`, with the means (C, D) of the teacher's features."""
    check_floating("nd", "student", student)
    check_floating("nd", "teacher", teacher)
    check_integers("nd", "target", target)
    if class_means is None:
        raise InvalidValueError("nd: class_means must be given, or found by fit(features, labels), got None")
    width = class_means.shape[1]
    if student.ndim != 2 or student.shape[1] != width:
        given = shape_text(tuple(student.shape))
        raise InvalidValueError(f"nd: student must have shape (N, {width}), which is the teacher's width, got {given}")
    check_shape("nd", "teacher", teacher, tuple(student.shape))
    check_shape("nd", "target", target, tuple(student.shape[:1]))
    s = widen(student)
    direction = unit(class_means.to(s.dtype)).index_select(0, target.long())  # which refuses what brackets would wrap
    lengths = torch.stack([torch.linalg.vector_norm(x, dim=1) for x in (s, teacher.detach().to(s.dtype))])
    length = lengths.amax(0)
    length = torch.where(length > 1e-12, length, torch.ones_like(length))
    per_sample = weight * (1 - (s * direction).sum(1) / length)
    return reduce(per_sample, per_sample.numel(), reduction)


@objective(
    family="distillation",
    function=nd,
    link="value",
    tune={"weight": (0.5, 8.0)},
)
class NDLoss(Objective):
    r"""Norm and direction: a student's features point to the teacher's class mean, and become as long as the teacher's.

    .. math:: \ell(s, t, y) = w \left( 1 - \frac{s \cdot e_y}{\max(\lVert s \rVert, \lVert t \rVert)} \right), \qquad
        e_y = \frac{m_y}{\lVert m_y \rVert}

    with features s and t, and the mean m of the teacher's features of a class over the training set. While s is shorter than t the
    loss is linear in s, and pulls along e; once it is longer, only its direction counts. A term beside others: the authors add it
    to knowledge distillation. Whether features are taken before or after the rectifier matters. A student of another width needs a
    projection of its own. A class without samples has no direction, and costs w without a gradient.

    Args:
        num_classes: how many classes there are.
        feature_dim: the width D of the teacher's features.
        weight: w, of the term as a whole; the authors tune it for each pair of networks.
        class_means: m (C, D); ``fit(features, labels)`` finds them from the teacher's features.
        reduction: ``mean``, ``sum`` or ``none``.
    Shape: student and teacher features (N, D); target (N,) class indices.
    Units: none; between 0 and 2 w.
    Errors: a shape or dtype other than these, a parameter outside its range, or class means that were neither given nor found, are
        a ``LossaryError``.
    Source: Wang, Cheng, Duan, Wang, Feng and Kong, "Improving Knowledge Distillation via Regularizing Feature Norm and
        Direction", 2023.

    >>> loss = NDLoss(num_classes=2, feature_dim=2)
    >>> teacher, labels = torch.tensor([[4.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 1])
    >>> loss.fit(teacher, labels)
    >>> loss(torch.tensor([[1.0, 1.0], [3.0, 4.0]]), teacher, labels)  # too short, and too long
    tensor(0.4750)
    """

    requires = ("target",)
    num_classes: int
    feature_dim: int
    class_means: Tensor | None

    def __init__(
        self,
        *,
        num_classes: PositiveCount,
        feature_dim: PositiveCount,
        weight: NonNegative = 1.0,
        class_means: Vector | None = None,
        reduction: Reduction = "mean",
    ):
        super().__init__(
            num_classes=num_classes, feature_dim=feature_dim, weight=weight, class_means=class_means, reduction=reduction
        )
        self.means_were_given = self.class_means is not None
        if self.class_means is not None:
            check_shape(self.name, "class_means", self.class_means, (num_classes, feature_dim))

    def reset_parameters(self) -> None:
        if not self.means_were_given:
            self.class_means = None

    def hyperparameters(self) -> dict[str, object]:
        """What the constructor was given: means that were found are state."""
        given = super().hyperparameters()
        return given if self.means_were_given else {**given, "class_means": None}

    @torch.no_grad()
    def fit(self, features: Tensor, labels: Tensor) -> None:
        """Find the means of the teacher's features (N, D) for each label (N,), over the training set."""
        classes, width = self.num_classes, self.feature_dim
        check_floating(self.name, "features", features)
        check_integers(self.name, "labels", labels)
        if features.ndim != 2 or features.shape[1] != width:
            given = shape_text(tuple(features.shape))
            raise InvalidValueError(f"{self.name}: features must have shape (N, {width}), got {given}")
        check_shape(self.name, "labels", labels, (features.shape[0],))
        check_indices(self.name, "labels", labels, "class indices", classes)
        labels = labels.long()
        sums = torch.zeros(classes, width, dtype=double_dtype(features.device), device=features.device)
        sums.index_add_(0, labels, double(features))
        counts = torch.bincount(labels, minlength=sums.shape[0]).clamp_min(1)
        self.class_means = (sums / counts.unsqueeze(1)).to(torch.promote_types(features.dtype, torch.float32))

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        parameters = self.hyperparameters()
        for name in ("num_classes", "feature_dim", "class_means"):
            del parameters[name]
        return self.function(student, teacher, target, self.class_means, **parameters)

    def link(self, output: Tensor) -> Tensor:
        return output

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        saved = state_dict.get(f"{prefix}class_means")
        if saved is not None and self.class_means is None:
            self.class_means = torch.empty_like(saved)
        super()._load_from_state_dict(state_dict, prefix, *rest)
