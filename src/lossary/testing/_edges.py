"""The edges of what a batch can be: nothing in it, one kind of sample, one class, unusual memory."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lossary.testing._relations import parameters_said, reductions, settings
from lossary.testing._subject import (
    Batch,
    Failed,
    NotApplicable,
    Subject,
    agree,
    call,
    complaint,
    finite,
    first_line,
    gradients_of,
    side_by_side,
    value_and_gradient,
)


def _nothing(what: str, loss: nn.Module, batch: Batch) -> None:
    value, gradients = gradients_of(loss, batch)
    if value.ndim == 0 and not float(value) == 0:
        raise Failed(f"{what}: the loss is {float(value):g} instead of 0")
    for name, gradient in gradients.items():
        if gradient.numel() and not bool((gradient == 0).all()):
            raise Failed(f"{what}: the gradient is {gradient[gradient != 0][0]:g} instead of 0")
        if tuple(gradient.shape) != tuple(batch[name].shape):
            raise Failed(f"{what}: the gradient has shape {tuple(gradient.shape)} instead of {tuple(batch[name].shape)}")


def empty_batch(subject: Subject) -> str:
    """A batch of no samples gives 0, with a gradient."""
    for kind in subject.kinds:
        for reduction in reductions(subject):
            loss = subject.make(**reduction)
            batch = subject.batch(0, kind=kind, loss=loss)
            _nothing(f"no samples, {kind}, {parameters_said(reduction)}", loss, batch)
            if reduction == {"reduction": "none"} and call(loss, batch).numel():
                raise Failed(f"reduction='none' has {call(loss, batch).numel()} values for no samples")
    return "0 with a gradient"


def everything_ignored(subject: Subject) -> str:
    """A batch in which nothing counts (targets ignored or of weight 0, a sample without a partner, masked lists) gives 0."""
    said = []
    loss = subject.make()
    batch = subject.batch(4, loss=loss)
    if subject.family == "label_ranking":
        _nothing("no label of any row matters", loss, batch.targeted(torch.zeros_like(batch.target)))
        said.append("without a label that matters")
    if subject.family == "embedding":
        for kind in subject.kinds:
            _nothing(f"one sample, which has no pair, {kind}", loss, subject.batch(1, loss=loss, kind=kind))
        said.append("without a pair")
    if subject.family == "ranking" and "mask" in subject.batch(4, kind=subject.kinds[-1]).given:
        masked = subject.batch(4, loss=loss, kind=subject.kinds[-1])
        _nothing("every item masked", loss, masked.changed({"mask": torch.zeros_like(masked["mask"])}))
        said.append("masked")
    if subject.takes("ignore_index"):
        for setting in settings(subject):
            if not ("weight" in setting and not subject.inputs.by_class):
                ignoring = subject.make(ignore_index=-100, **setting)
                batch = subject.batch(4, loss=ignoring)
                ignored = batch.targeted(torch.full_like(batch.target, -100))
                _nothing(f"everything ignored, {list(setting) or 'defaults'}", ignoring, ignored)
        said.append("ignored")
    if subject.takes("weight"):
        shape = (subject.inputs.classes,) if subject.inputs.by_class else tuple(batch.output.shape)
        weightless = subject.make(weight=torch.zeros(shape, dtype=torch.float64))
        _nothing("every weight 0", weightless, subject.batch(4, loss=weightless))
        said.append("of weight 0")
    if not said:
        raise NotApplicable("it has neither 'ignore_index' nor 'weight'")
    return f"everything {' or '.join(said)}: 0 with a gradient"


def single_class_batch(subject: Subject) -> str:
    """A batch of one sample, or whose samples all have one class or value, has a finite loss and gradient; all different too."""
    loss = subject.make()
    for n in (1, 6):
        for what, batch in subject.inputs.uniform(loss, n).items():
            finite(what, *value_and_gradient(loss, batch))
    return "finite"


def single_class_dimension(subject: Subject) -> str:
    """One class only in dimension 1 is either finite or refused in one sentence."""
    if subject.family != "classification":
        raise NotApplicable("its outputs are not classes")
    if {"weight", "num_classes", "class_counts"} & {*subject.given, *subject.required}:
        raise NotApplicable("the number of classes is fixed by its parameters")
    loss = subject.make()
    batch = subject.inputs.call(loss, torch.tensor([[0.3], [-2.0]], dtype=torch.float64), torch.tensor([0, 0]))
    try:
        value, gradient = value_and_gradient(loss, batch)
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
    """Transposed, strided, sliced and expanded inputs give what contiguous copies give."""
    views: dict[str, Callable[[Tensor], Tensor]] = {
        "transposed": _transposed,
        "strided": lambda value: value.repeat_interleave(2, 0)[::2],
        "sliced": lambda value: torch.cat([value, value], -1)[..., : value.shape[-1]],
        "expanded": lambda value: value[:1].expand_as(value),
    }
    for kind in subject.kinds:
        for setting in settings(subject):
            loss = subject.make(**setting)
            batch = subject.batch(6, kind=kind, loss=loss)
            for name, view in views.items():
                seen = batch.changed({key: view(value) for key, value in batch.tensors.items() if key in _shown(batch)})
                # autograd.grad on the views themselves, because a clone would make an expanded tensor dense again
                leaves = {key: seen[key].detach().requires_grad_() for key in seen.leaves}
                value = call(loss, seen.changed(leaves))
                gradients = torch.autograd.grad(value.sum(), list(leaves.values()))
                plain, dense = value_and_gradient(loss, seen.mapped(Tensor.contiguous))
                agree(f"{name}, value", value.detach(), plain)
                agree(f"{name}, gradient", side_by_side(dict(zip(leaves, gradients, strict=True))), dense)
    return "transposed, strided, sliced and expanded"


def _shown(batch: Batch) -> set[str]:
    """What may have any strides: what is not the position of a sample, which nobody keeps in a view."""
    return set(batch.tensors) - {"index", "group", "bag"}


def _transposed(value: Tensor) -> Tensor:
    """The same numbers with the strides of a transposed tensor (or every third of as many)."""
    return value.transpose(0, -1).contiguous().transpose(0, -1) if value.ndim > 1 else value.repeat_interleave(3, 0)[::3]
