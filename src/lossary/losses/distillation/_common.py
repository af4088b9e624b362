"""What losses on a student's and a teacher's logits share."""

import torch
from torch import Tensor

from lossary._core.checks import check_floating, check_integers, check_shape, check_shape_of_classes, shape_text
from lossary._fast.classes.rule import Rows, average_over_rows
from lossary.errors import InvalidValueError


def check_logits(owner: str, student: Tensor, teacher: Tensor, target: Tensor | None) -> None:
    """student and teacher (N, C, *); target (N, *) class indices, or none."""
    check_floating(owner, "student", student)
    check_floating(owner, "teacher", teacher)
    if student.ndim < 2:
        raise InvalidValueError(f"{owner}: student must have shape (N, C, *), got {shape_text(tuple(student.shape))}")
    check_shape(owner, "teacher", teacher, tuple(student.shape))
    if target is not None:
        check_integers(owner, "target", target)
        check_shape_of_classes(owner, student, target, (student.shape[0], *student.shape[2:]), name="student")


def cross_entropy_of_each(student: Tensor, target: Tensor) -> Tensor:
    """The label term (N, *); 0 where the target is -100."""

    def if_class(row: Rows) -> Tensor:
        return -row.log_p

    return average_over_rows(student, target, if_class, weight=None, ignore_index=-100, label_smoothing=0.0, reduction="none")


def wide_like(teacher: Tensor, student: Tensor) -> Tensor:
    """The teacher's output in the student's dtype, half precision in single; nothing is learned by the teacher."""
    return teacher.detach().to(torch.promote_types(student.dtype, torch.float32))
