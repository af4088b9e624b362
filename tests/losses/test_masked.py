"""A class or label masked by -inf is one that is not there: value and gradient are those of the batch without its column."""

import pytest
import torch
from torch import Tensor

from lossary import specs
from lossary._fast import dispatch
from lossary.testing import Subject, subject_of

# These have weights or counts of a fixed number of classes, or sum up over a fixed number of them.
FIXED = {
    "ensloss",
    "ldam_multilabel",
    "legendretron",
    "set_dice",
    "smooth_adversarial_comp_sum",
    "worst_group",
    "black_box_quadratic",
}
NAMES = sorted(
    name
    for name, spec in specs().items()
    if spec.family in ("classification", "multilabel") and name not in FIXED and subject_of(name).make().consumes == "logits"
)
WAYS = {"compiled": torch.float32, "blocks": torch.float64, "plain": torch.bfloat16}


def answers(subject: Subject, kind: str, dtype: torch.dtype, smoothing: float, masked: bool) -> tuple[Tensor, Tensor] | None:
    """The value and the gradient by the logits of all classes but the last, which is masked or left out."""
    loss = subject.make(**({"label_smoothing": smoothing} if smoothing else {}))
    batch = subject.batch(8, loss=loss, kind=kind, dtype=dtype)
    logits, target = batch.output.detach().clone(), batch.target.clone()
    if logits.ndim < 2 or logits.shape[1] < 3:
        return None
    if target.shape == logits.shape:
        target[:, -1] = 0
        if subject.family == "classification":
            target = target / target.sum(1, keepdim=True)
    else:
        target = target.clamp_max(logits.shape[1] - 2)
    if masked:
        logits[:, -1] = -torch.inf
    else:
        logits, target = logits[:, :-1].contiguous(), target[:, :-1] if target.shape == logits.shape else target
    leaf = logits.requires_grad_()
    batch = batch.changed({batch.leaves[0]: leaf}).targeted(target)
    torch.manual_seed(0)
    value = loss(*batch.arguments, **batch.sides)
    (gradient,) = torch.autograd.grad(value.sum(), leaf)
    if masked:
        assert not gradient[:, -1].any()
        gradient = gradient[:, :-1]
    return value.detach(), gradient


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", NAMES)
def test_a_masked_class_is_not_there(monkeypatch: pytest.MonkeyPatch, name: str, way: str) -> None:
    subject, dtype = subject_of(name), WAYS[way]
    monkeypatch.setattr(dispatch, "LOOPS", way == "compiled")
    if way == "blocks":
        monkeypatch.setattr(dispatch, "SMALL", 0)
        monkeypatch.setattr(dispatch, "BLOCK", 16)
    precision = 2e-2 if dtype == torch.bfloat16 else 2e-5
    for kind in subject.kinds:
        for smoothing in (0.0, 0.1) if subject.takes("label_smoothing") else (0.0,):
            found, expected = (answers(subject, kind, dtype, smoothing, masked) for masked in (True, False))
            if found is not None and expected is not None:
                assert expected[0].isfinite().all()
                torch.testing.assert_close(found, expected, rtol=precision, atol=precision / 10)


@pytest.mark.parametrize("name", sorted(FIXED - {"legendretron", "worst_group"}))
def test_a_masked_class_of_a_fixed_number_spoils_nothing(name: str) -> None:
    subject = subject_of(name)
    for kind in subject.kinds:
        found = answers(subject, kind, torch.float32, 0.0, masked=True)
        assert found is not None
        assert all(each.isfinite().all() for each in found)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize(
    "name", ["cross_entropy", "focal", "squentropy", "z_loss", "dual_focal", "binary_cross_entropy", "sigmoid_focal"]
)
def test_a_target_that_is_masked_costs_more_than_any_number(monkeypatch: pytest.MonkeyPatch, name: str, soft: bool) -> None:
    logits = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    logits[1, 3] = -torch.inf
    target = torch.tensor([0, 3, 2, 1])
    rows = torch.nn.functional.one_hot(target, 6).float() * 0.7 + 0.05
    sigmoid = name in ("binary_cross_entropy", "sigmoid_focal")
    for dtype, loops in ((torch.float32, True), (torch.float32, False), (torch.bfloat16, False)):
        monkeypatch.setattr(dispatch, "LOOPS", loops)
        value = subject_of(name).make(reduction="none")(logits.to(dtype), rows if soft or sigmoid else target)
        assert value.view(4, -1).isfinite().all(1).tolist() == [True, False, True, True]
