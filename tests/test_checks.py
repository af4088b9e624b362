"""Shapes of other tools' conventions are refused with what to do about them, and what is said to do is right."""

import re

import pytest
import torch

import lossary
from lossary.errors import InvalidIndexError, InvalidValueError

F = lossary.functional


@pytest.mark.parametrize("name", ["cross_entropy", "focal", "set_dice", "squentropy"])
def test_logits_of_a_language_model(name: str) -> None:
    logits, target = torch.randn(4, 6, 10), torch.randint(10, (4, 6))
    text = f"{name}: target must have shape (4, 10) or (4, 6, 10), got (4, 6): classes go to dimension 1, logits.transpose(1, 2)"
    with pytest.raises(InvalidValueError, match=f"^{re.escape(text)}$"):
        getattr(F, name)(logits, target)
    assert getattr(F, name)(logits.transpose(1, 2), target).isfinite()


def test_a_teachers_language_model() -> None:
    logits, target = torch.randn(4, 6, 10), torch.randint(10, (4, 6))
    text = "knowledge_distillation: target must have shape (4, 10), got (4, 6): classes go to dimension 1, student.transpose(1, 2)"
    with pytest.raises(InvalidValueError, match=f"^{re.escape(text)}$"):
        F.knowledge_distillation(logits, logits, target)


def test_images_with_channels_last_and_labels_with_a_channel() -> None:
    logits, target = torch.randn(2, 3, 8, 5), torch.randint(3, (2, 8, 5))
    with pytest.raises(InvalidValueError, match=r"classes go to dimension 1, logits\.movedim\(-1, 1\)$"):
        F.focal(logits.movedim(1, -1), target)
    with pytest.raises(
        InvalidValueError, match=r"got \(2, 1, 8, 5\): class indices have no dimension of channels, target\.squeeze\(1\)$"
    ):
        F.focal(logits, target.unsqueeze(1))
    assert F.focal(logits, target.unsqueeze(1).squeeze(1)) == F.focal(logits, target)


def test_other_shapes_have_no_remedy() -> None:
    with pytest.raises(InvalidValueError, match=r"got \(4, 2\)$"):
        F.focal(torch.randn(4, 6, 10), torch.zeros(4, 2, dtype=torch.int64))


def test_one_channel_for_yes_or_no() -> None:
    logits, target = torch.randn(2, 1, 4, 4), torch.ones(2, 4, 4, dtype=torch.int64)
    with pytest.raises(
        InvalidIndexError, match=r"^set_dice: target must be class indices from 0 to 0 .*two classes by .*, got 1 at \(0, 0, 0\)$"
    ):
        F.set_dice(logits, target)
    two = torch.cat([torch.zeros_like(logits), logits], 1)
    assert F.set_dice(two, target).isfinite()
    torch.testing.assert_close(two.softmax(1)[:, 1:], logits.sigmoid())
