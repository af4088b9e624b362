"""What is ignored may be anything: padding is often what a model was never asked about, and NaN there. 0 times NaN is NaN, and
PyTorch's own cross-entropy hands it on to the model."""

import pytest
import torch
from torch import Tensor, nn

from lossary import specs
from lossary._fast import dispatch
from lossary.testing import Subject, subject_of

FIXED = ["fairness_regularized", "naive_bayes", "worst_group"]  # they leave out -100
IGNORING = sorted([name for name, spec in specs().items() if any(p.name == "ignore_index" for p in spec.parameters)] + FIXED)


def gradients(subject: Subject, n: int, dtype: torch.dtype, fill: float | None, smoothing: float) -> list[Tensor]:
    """The value, its gradient by the outputs, and by the loss's own weights, with so much at the places that are ignored."""
    loss = subject.make(**({"label_smoothing": smoothing} if smoothing else {}))
    batch = subject.batch(n, loss=loss, dtype=dtype)
    target = batch.target.clone()
    target[1], target[3] = -100, -100
    outputs = {name: batch[name].detach().clone() for name in batch.leaves}
    for output in outputs.values():
        if fill is not None:
            output[1], output[3] = fill, fill
        output.requires_grad_()
    batch = batch.targeted(target).changed(outputs)
    torch.manual_seed(0)
    weights = list(loss.parameters())
    value = loss(*batch.arguments, **batch.sides)
    found = torch.autograd.grad(value, [*outputs.values(), *weights], allow_unused=True)
    return [value.detach(), *(gradient for gradient in found if gradient is not None)]


@pytest.mark.parametrize("way", ["compiled", "blocks", "plain"])
@pytest.mark.parametrize("name", IGNORING)
def test_what_is_ignored_may_be_anything(monkeypatch: pytest.MonkeyPatch, name: str, way: str) -> None:
    subject = subject_of(name)
    monkeypatch.setattr(dispatch, "LOOPS", way == "compiled")
    if way == "blocks":
        monkeypatch.setattr(dispatch, "SMALL", 0)
        monkeypatch.setattr(dispatch, "BLOCK", 16)
    for dtype in (torch.float32, torch.bfloat16):
        for smoothing in (0.0, 0.1) if subject.takes("label_smoothing") else (0.0,):
            as_it_was = gradients(subject, 8, dtype, None, smoothing)
            for fill in (torch.nan, torch.inf):
                for found, expected in zip(gradients(subject, 8, dtype, fill, smoothing), as_it_was, strict=True):
                    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["cross_entropy", "z_loss", "binary_cross_entropy"])
def test_what_is_ignored_may_be_anything_where_a_gradient_is_differentiated(name: str) -> None:
    logits = torch.randn(40, 12, generator=torch.Generator().manual_seed(0))
    logits[5] = torch.nan
    target = torch.arange(40) % 12 if name != "binary_cross_entropy" else (logits > 0).float()
    target[5] = -100
    loss, leaf = subject_of(name).make(), logits.requires_grad_()
    (slope,) = torch.autograd.grad(loss(leaf, target), leaf, create_graph=True)
    (second,) = torch.autograd.grad(slope.square().sum(), leaf)
    assert second.isfinite().all()
    assert not second[5].any()
    assert second.any()


@pytest.mark.parametrize("name", ["fairness_regularized", "worst_group"])
def test_what_is_ignored_may_be_anything_for_each_class_against_the_rest(name: str) -> None:
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    logits[1] = torch.nan
    logits.requires_grad_()
    target, group = torch.tensor([0, -100, 2, 3, 1, 0]), torch.tensor([0, 0, 0, 1, 1, 1])
    value = subject_of(name).make(base="bce")(logits, target, group=group)
    (gradient,) = torch.autograd.grad(value, logits)
    assert value.isfinite()
    assert gradient.isfinite().all()
    assert gradient.any()
    assert not gradient[1].any()


def test_ignored_samples_of_a_compiled_head() -> None:
    head = nn.Linear(4, 3)
    x, target = torch.randn(8, 4), torch.tensor([0, -100, 2, 1, 0, 1, 2, 0])
    x[1] = torch.nan
    loss = subject_of("cross_entropy").make()
    torch.compile(lambda x: loss(head(x), target), backend="aot_eager")(x.requires_grad_()).backward()
    assert x.grad is not None
    assert x.grad[0].any()
    assert not x.grad[1].any()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("name", ["focal", "z_loss"])
def test_weights_of_samples_that_are_zero_yet_have_their_slopes(
    monkeypatch: pytest.MonkeyPatch, name: str, smoothing: float
) -> None:
    """As where weights of samples are learned, beginning with zeros: what counts for nothing is not what is ignored."""
    monkeypatch.setattr(dispatch, "SMALL", 0)
    monkeypatch.setattr(dispatch, "BLOCK", 16)
    logits = torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = subject_of(name).make(reduction="none", label_smoothing=smoothing)
    share = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    each = loss(logits, torch.arange(6) % 5)
    (gradient,) = torch.autograd.grad((each * share).sum(), logits, create_graph=True)
    assert not gradient.any()
    (slopes,) = torch.autograd.grad(gradient.sum(1).sum() + gradient[:, 0].sum(), share)
    (own,) = torch.autograd.grad(each.sum(), logits)
    torch.testing.assert_close(slopes, own.sum(1) + own[:, 0])
