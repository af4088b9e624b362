"""The edges of what a batch can be: nothing in it, one kind of sample, one class, unusual memory."""

import torch
from torch import Tensor, nn

from lossary.testing._relations import settings
from lossary.testing._subject import (
    Failed,
    NotApplicable,
    Subject,
    agree,
    call,
    complaint,
    finite,
    first_line,
    value_and_gradient,
)


def _nothing(what: str, loss: nn.Module, output: Tensor, target: Tensor) -> None:
    value, gradient = value_and_gradient(loss, output, target)
    if value.ndim == 0 and not float(value) == 0:
        raise Failed(f"{what}: the loss is {float(value):g} instead of 0")
    if gradient.numel() and not bool((gradient == 0).all()):
        raise Failed(f"{what}: the gradient is {gradient[gradient != 0][0]:g} instead of 0")
    if tuple(gradient.shape) != tuple(output.shape):
        raise Failed(f"{what}: the gradient has shape {tuple(gradient.shape)} instead of {tuple(output.shape)}")


def empty_batch(subject: Subject) -> str:
    """A batch of no samples gives 0, with a gradient."""
    output = subject.inputs.output(0)
    for soft in subject.softable:
        target = subject.inputs.target(0, soft=soft)
        _nothing(f"no samples, {'soft' if soft else 'hard'} targets", subject.make(), output, target)
        _nothing(f"no samples, {'soft' if soft else 'hard'} targets, sum", subject.summed(), output, target)
        if subject.takes("reduction") and subject.decomposable:
            each = call(subject.make(reduction="none"), output, target)
            if each.numel():
                raise Failed(f"reduction='none' has {each.numel()} values for no samples")
    return "0 with a gradient"


def everything_ignored(subject: Subject) -> str:
    """A batch in which every target is ignored, or has weight 0, gives 0 and a gradient of zeros."""
    said = []
    if subject.family == "label_ranking":
        output = subject.inputs.output(4)
        _nothing("no label of any row matters", subject.make(), output, torch.zeros_like(output))
        return "no label of any row matters: 0 with a gradient"
    if subject.takes("ignore_index"):
        output = subject.inputs.output(4)
        target = torch.full_like(subject.inputs.target(4), -100)
        for setting in settings(subject):
            if not ("weight" in setting and subject.family != "classification"):
                _nothing(
                    f"everything ignored, {list(setting) or 'defaults'}", subject.make(ignore_index=-100, **setting), output, target
                )
        said.append("ignored")
    if subject.takes("weight"):
        output, target = subject.inputs.output(4), subject.inputs.target(4)
        shape = (subject.inputs.classes,) if subject.family == "classification" else tuple(output.shape)
        _nothing("every weight 0", subject.make(weight=torch.zeros(shape, dtype=torch.float64)), output, target)
        said.append("of weight 0")
    if not said:
        raise NotApplicable("it has neither 'ignore_index' nor 'weight'")
    return f"everything {' or '.join(said)}: 0 with a gradient"


def single_class_batch(subject: Subject) -> str:
    """A batch whose samples all have one class or value, and a batch of one sample, give a finite loss and gradient."""
    for n in (1, 6):
        output = subject.inputs.output(n)
        for first in range(n if n == 1 else 3):
            target = subject.inputs.target(n, seed=first)
            target = target[:1].expand_as(target)
            finite(f"{n} samples of one class", *value_and_gradient(subject.make(), output, target))
    if subject.family in ("multilabel", "label_ranking"):
        for filled in (0.0, 1.0):
            output = subject.inputs.output(4)
            finite(f"every label {filled:g}", *value_and_gradient(subject.make(), output, torch.full_like(output, filled)))
    return "finite"


def single_class_dimension(subject: Subject) -> str:
    """One class only in dimension 1 is either finite or refused in one sentence."""
    if subject.family != "classification":
        raise NotApplicable("its outputs are not classes")
    if {"weight", "num_classes", "class_counts"} & {*subject.given, *subject.required}:
        raise NotApplicable("the number of classes is fixed by its parameters")
    output = torch.tensor([[0.3], [-2.0]], dtype=torch.float64)
    try:
        value, gradient = value_and_gradient(subject.make(), output, torch.tensor([0, 0]))
    except Failed:
        raise
    except Exception as error:
        wrong = complaint(subject, error)
        if wrong and not ("\n" not in str(error) and "got" in str(error) and isinstance(error, ValueError)):
            raise Failed(wrong) from error
        return f"refused: {first_line(str(error))}"
    finite("one class", value, gradient)
    return f"loss {float(value.sum()):g}"


def non_contiguous_inputs(subject: Subject) -> str:
    """Transposed, strided and expanded outputs and targets give what contiguous copies give."""
    for soft in subject.softable:
        base = subject.inputs.output(6)
        target = subject.inputs.target(6, soft=soft)
        views = {
            "transposed": (_transposed(base), _transposed(target)),
            "strided": (base.repeat_interleave(2, 0)[::2], target.repeat_interleave(2, 0)[::2]),
            "sliced": (torch.cat([base, base], -1)[..., : base.shape[-1]], target),
            "expanded": (base[:1].expand_as(base), target[:1].expand_as(target)),
        }
        for name, (output, seen) in views.items():
            for setting in settings(subject):
                loss = subject.make(**setting)
                # autograd.grad on the view itself, because a clone would make an expanded tensor dense again
                leaf = output.detach().requires_grad_()
                value = call(loss, leaf, seen)
                (gradient,) = torch.autograd.grad(value.sum(), leaf)
                plain, dense = value_and_gradient(loss, output.contiguous(), seen.contiguous())
                agree(f"{name}, value", value.detach(), plain)
                agree(f"{name}, gradient", gradient, dense)
    return "transposed, strided, sliced and expanded"


def _transposed(target: Tensor) -> Tensor:
    """The same numbers with the strides of a transposed matrix (or every second of twice as many)."""
    return target.t().contiguous().t() if target.ndim == 2 else target.repeat_interleave(3, 0)[::3]
