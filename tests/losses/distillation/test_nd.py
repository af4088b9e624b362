"""Norm and direction: against a loop, its two regimes, and the means it finds."""

import math
import re
from operator import mul

import pytest
import torch

from lossary import LossaryError
from lossary.losses.distillation.nd import NDLoss, nd

GENERATOR = torch.Generator().manual_seed(0)
S, T = torch.randn(2, 12, 4, generator=GENERATOR, dtype=torch.float64).unbind()
MEANS = torch.randn(3, 4, generator=GENERATOR, dtype=torch.float64)
TARGET = torch.randint(3, (12,), generator=GENERATOR)


def test_matches_a_loop_and_stays_between_0_and_2() -> None:
    expected = []
    for s, t, y in zip(S.tolist(), T.tolist(), TARGET.tolist(), strict=True):
        mean = MEANS[y].tolist()
        expected.append(1 - sum(map(mul, s, mean)) / math.hypot(*mean) / max(math.hypot(*s), math.hypot(*t)))
    value = nd(S, T, TARGET, MEANS, reduction="none")
    torch.testing.assert_close(value, S.new_tensor(expected))
    assert ((value >= 0) & (value <= 2)).all()
    torch.testing.assert_close(nd(S, T, TARGET, MEANS, weight=3.0), 3 * value.mean())


def test_a_short_student_is_pulled_along_the_direction_and_a_long_one_turned() -> None:
    direction = torch.nn.functional.normalize(MEANS[TARGET])
    short = (0.1 * torch.nn.functional.normalize(S)).requires_grad_()
    teacher = 2.0 * torch.nn.functional.normalize(T)
    (gradient,) = torch.autograd.grad(nd(short, teacher, TARGET, MEANS, reduction="sum"), short)
    torch.testing.assert_close(gradient, -direction / 2)
    long = (9.0 * torch.nn.functional.normalize(S)).requires_grad_()
    value = nd(long, teacher, TARGET, MEANS, reduction="none")
    torch.testing.assert_close(value, 1 - torch.nn.functional.cosine_similarity(S, direction))
    (gradient,) = torch.autograd.grad(value.sum(), long)
    torch.testing.assert_close((gradient * long).sum(1), torch.zeros(12, dtype=torch.float64))


def test_fit_finds_the_means_of_each_class() -> None:
    loss = NDLoss(num_classes=4, feature_dim=4)
    loss.fit(T, TARGET)
    assert loss.class_means is not None
    for label in range(3):
        torch.testing.assert_close(loss.class_means[label], T[TARGET == label].mean(0))
    assert not loss.class_means[3].any()
    torch.testing.assert_close(loss(S, T, TARGET), nd(S, T, TARGET, loss.class_means))
    assert "class_means=None" in repr(loss)


def test_means_travel_in_the_state_dict_and_into_a_loss_without_any() -> None:
    fitted, fresh = NDLoss(num_classes=3, feature_dim=4), NDLoss(num_classes=3, feature_dim=4)
    fitted.fit(T, TARGET)
    fresh.load_state_dict(fitted.state_dict())
    assert torch.equal(fresh(S, T, TARGET), fitted(S, T, TARGET))
    assert torch.equal(NDLoss(num_classes=3, feature_dim=4, class_means=MEANS)(S, T, TARGET), nd(S, T, TARGET, MEANS))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_vectors_of_zeros_have_finite_gradients(dtype: torch.dtype) -> None:
    s = torch.zeros(2, 4, dtype=dtype, requires_grad=True)
    for teacher in (torch.zeros(2, 4, dtype=dtype), torch.ones(2, 4, dtype=dtype)):
        value = nd(s, teacher, torch.tensor([0, 1]), torch.eye(4, dtype=dtype)[:2] * 0 + (dtype != torch.float64))
        assert value.item() == 1
        assert torch.autograd.grad(value, s)[0].isfinite().all()


def test_mistakes_are_named() -> None:
    loss = NDLoss(num_classes=3, feature_dim=4)
    with pytest.raises(LossaryError, match=re.escape("nd: class_means must be given, or found by fit(features, labels), got None")):
        loss(S, T, TARGET)
    with pytest.raises(LossaryError, match=re.escape("nd: features must have shape (N, 4), got (12, 3)")):
        loss.fit(T[:, :3], TARGET)
    loss.fit(T, TARGET)
    with pytest.raises(LossaryError, match=re.escape("nd: student must have shape (N, 4), which is")):
        loss(S[:, :3], T, TARGET)
    with pytest.raises(LossaryError, match=re.escape("nd: class_means must have shape (3, 4), got (4, 3)")):
        NDLoss(num_classes=3, feature_dim=4, class_means=torch.zeros(4, 3))
