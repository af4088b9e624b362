"""What is true of UniViTAR's loss alone."""

import pytest
import torch
from tests.losses.contrastive.common import views

from lossary.errors import InvalidValueError
from lossary.losses import SigLIPLoss, UniViTARLoss

A, B = (x.detach() for x in views(6))
STUDENT, TEACHER = (x.detach() for x in views(7, 5))
STUDENT, TEACHER = STUDENT[:6].view(6, 1, 5), TEACHER[:6].view(6, 1, 5)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_adds_the_mean_cosine_distance_of_all_positions(reduction: str) -> None:
    student, teacher = torch.cat([STUDENT, -STUDENT], 1), torch.cat([TEACHER, TEACHER.flip(2)], 1)
    rows = [
        1 - sum(float(s @ t / (s.norm() * t.norm())) for s, t in zip(*pair, strict=True)) / 2
        for pair in zip(student, teacher, strict=True)
    ]
    expected = {"mean": sum(rows) / 6, "sum": sum(rows), "none": torch.tensor(rows, dtype=torch.float64)}[reduction]
    loss = UniViTARLoss(distill_weight=0.5, reduction=reduction)  # type: ignore[arg-type]
    plain = SigLIPLoss(reduction=reduction)  # type: ignore[arg-type]
    found = loss(A, B, student=student, teacher=teacher) - plain(A, B)
    torch.testing.assert_close(found.detach(), torch.as_tensor(expected, dtype=torch.float64) * 0.5)


def test_without_features_or_with_the_teachers_own_it_is_siglip() -> None:
    loss, plain = UniViTARLoss(), SigLIPLoss()
    assert loss(A, B).equal(plain(A, B))
    torch.testing.assert_close(loss(A, B, STUDENT, 3 * STUDENT), plain(A, B))


def test_the_teacher_has_no_gradient_and_the_student_has() -> None:
    student, teacher = STUDENT.clone().requires_grad_(), TEACHER.clone().requires_grad_()
    UniViTARLoss()(A, B, student=student, teacher=teacher).backward()
    assert teacher.grad is None
    assert student.grad is not None
    # A step against the gradient turns the student to the teacher.
    before, after = (torch.cosine_similarity(x.detach(), TEACHER, dim=-1) for x in (student, student - student.grad))
    assert (after > before).all()


def test_a_projector_takes_the_student_to_the_teachers_width() -> None:
    loss = UniViTARLoss(student_dim=3, teacher_dim=5).double()
    value = loss(A, B, student=torch.ones(6, 4, 3, dtype=torch.float64), teacher=torch.ones(6, 4, 5, dtype=torch.float64))
    value.backward()
    assert loss.projector is not None
    assert loss.projector.weight.grad.abs().sum() > 0  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("student", "teacher", "said"),
    [
        (STUDENT, None, "univitar: teacher must be given with student, got None"),
        (STUDENT[:5], TEACHER, r"univitar: student must have shape \(6, \*, E\), got \(5, 1, 5\)"),
        (STUDENT, TEACHER[..., :4], r"univitar: teacher must have shape \(6, 1, 5\), got \(6, 1, 4\)"),
    ],
)
def test_features_that_do_not_fit(student: torch.Tensor, teacher: torch.Tensor | None, said: str) -> None:
    with pytest.raises(InvalidValueError, match=said):
        UniViTARLoss()(A, B, student=student, teacher=teacher)


def test_one_width_alone_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="univitar: teacher_dim must be given with the other width, got None"):
        UniViTARLoss(student_dim=3)
