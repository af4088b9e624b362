"""The written contract: refusals, dtypes, the link, the docstring, and whether the declarations are true."""

import copy
import doctest
import inspect
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from lossary._core.registry import Spec
from lossary.testing._refusals import Case, must_refuse
from lossary.testing._subject import (
    Batch,
    Failed,
    NotApplicable,
    Subject,
    agree,
    call,
    finite,
    first_line,
    gradients_of,
    keywords_of,
    seeded,
    value_and_gradient,
)


def refuses_wrong_tensors(subject: Subject) -> str:
    """Tensors of a wrong shape or dtype are refused in one sentence that names the argument and what was given."""
    inputs = subject.inputs
    loss = subject.make()
    batch = subject.batch(6, loss=loss)
    first, second = _first_arguments(subject, batch)
    cases: list[Case] = []
    for what, argument, values in inputs.mistakes(batch, first, second):
        wrong = batch.changed(values)  # type: ignore[arg-type]
        cases.append((what, argument or "", partial(loss, *wrong.arguments, **wrong.sides)))
    wrong_length = torch.ones(inputs.classes + 1)
    vectors = [name for name in ("weight", "pos_weight") if subject.takes(name)]
    cases += [(f"{name} of a wrong length", name, _with(subject, name, wrong_length)) for name in vectors]
    return must_refuse(subject, cases)


def _with(subject: Subject, parameter: str, value: object) -> Callable[[], object]:
    """Build the loss with a parameter, and call it."""
    batch = subject.batch(6)
    return lambda: call(subject.make(**{parameter: value}), batch)


def _first_arguments(subject: Subject, batch: Batch) -> tuple[str, str | None]:
    """What the arguments given by position are called in errors."""
    if subject.spec is not None:
        named = list(inspect.signature(subject.spec.function).parameters)
        return named[0], named[1] if batch.positional > 1 else None
    first = "prediction" if subject.family in ("regression", "bags") else "logits"
    return first, "target" if batch.positional > 1 else None


def refuses_wrong_parameters(subject: Subject) -> str:
    """Values outside a parameter's domain are refused, by the constructor and by the function, and so are unknown names."""
    if subject.spec is None:
        outside: dict[str, list[object]] = {"reduction": ["average"], "label_smoothing": [-0.5, 1.5]}
        tried = [(name, value) for name, values in outside.items() for value in values if subject.takes(name)]
        if not tried:
            raise NotApplicable("it declares no domains, and has neither 'reduction' nor 'label_smoothing'")
        return must_refuse(subject, [(f"{name}={value!r}", name, _with(subject, name, value)) for name, value in tried])
    spec = subject.spec
    batch, of_function = subject.batch(4), keywords_of(spec.function)
    cases: list[Case] = []
    for parameter in spec.parameters:
        for bad in parameter.domain.outside() if parameter.domain is not None else ():
            said = f"with {parameter.name}={bad!r}"
            changed = {**subject.required, **subject.given, parameter.name: bad}
            cases.append((f"constructor {said}", parameter.name, partial(spec.cls, **changed)))
            if parameter.name in of_function:
                cases.append((f"function {said}", parameter.name, partial(subject.by_function, batch, **{parameter.name: bad})))
    for what, attempt in (("class", partial(spec.cls, **subject.required)), ("function", partial(spec.function, *batch.arguments))):
        try:
            attempt(no_such_parameter=1)
        except TypeError:
            continue
        raise Failed(f"the {what} takes a parameter that does not exist in silence")
    return must_refuse(subject, cases)


def dtype_and_device_kept(subject: Subject) -> str:
    """float64 stays float64, half precision gives float32, the gradient has the input's dtype, and everything its device."""
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        for kind in subject.kinds:
            _dtype_kept(subject, dtype, kind)
    return "float64, float32, float16 and bfloat16"


def _dtype_kept(subject: Subject, dtype: torch.dtype, kind: str) -> None:
    loss = subject.make()
    batch = subject.batch(4, dtype=dtype, kind=kind, loss=loss)
    value, gradients = gradients_of(loss, batch)
    half = dtype in (torch.float16, torch.bfloat16)
    allowed = {torch.float32} if half else {dtype}
    if half and subject.spec is None:
        allowed.add(dtype)  # PyTorch's own convention
    if value.dtype not in allowed:
        raise Failed(f"{dtype} gives a loss in {value.dtype}")
    for name, gradient in gradients.items():
        if gradient.dtype != dtype or gradient.device != batch[name].device or value.device != batch.output.device:
            raise Failed(f"a gradient in {gradient.dtype} on {gradient.device} for an output in {dtype} on {batch[name].device}")
    if kind == subject.kinds[0] and subject.takes("weight") and subject.spec is not None and subject.inputs.by_class:
        other = torch.float32 if dtype == torch.float64 else torch.float64
        weighted = call(subject.make(weight=subject.inputs.class_weight(dtype=other)), batch)
        if weighted.dtype != value.dtype:
            raise Failed(f"a weight in {other} turns the loss for {dtype} into {weighted.dtype}")


def link_tells_the_truth(subject: Subject) -> str:
    """The link keeps the shape; probabilities lie in [0, 1], and over classes sum to one; it does what the spec says.

    Its argument is what the model puts out: logits, embeddings (whose link is the value itself, or its direction where only cosines
    count), scores of a list, a student's
    logits.
    """
    loss = subject.make()
    link = getattr(loss, "link", None)
    if not callable(link):
        raise NotApplicable("it has no link")
    spec = subject.need_spec("what its link returns is not declared")
    spaces: tuple[tuple[int, ...], ...] = ((), (3,)) if subject.spatial else ((),)
    for dtype in (torch.float64, torch.float16):
        for space in spaces:
            for scale in (2.0, 1e3):
                output = subject.batch(6, dtype=dtype, space=space, scale=scale, loss=loss).output
                prediction = link(output).detach()
                if prediction.shape != torch.Size([*subject.inputs.predicted(output)]):
                    raise Failed(f"outputs {tuple(output.shape)} become predictions {tuple(prediction.shape)}")
                finite(f"link of outputs of size {scale:g}", prediction)
                problem = _not_probabilities(subject, prediction, 1e-9 if dtype == torch.float64 else 4e-3)
                if spec.link == "probabilities" and problem:
                    raise Failed(f"declared probabilities, but {problem}")
                if spec.link == "value" and not (torch.equal(prediction, output) or _directions(subject, prediction, output)):
                    raise Failed("declared to be the value itself, but the link changes it")
                if spec.link == "scores" and not problem and scale == 2.0 and dtype == torch.float64 and not space:
                    raise Failed("declared scores, but they are probabilities: say so, and log-loss can be computed")
    output = subject.batch(6, loss=loss).output
    agree("link of one sample alone", link(output[:1]), link(output)[:1])
    return f"{spec.link}"


def _directions(subject: Subject, prediction: Tensor, output: Tensor) -> bool:
    """Whether embeddings are linked to themselves at length one."""
    if subject.family not in ("embedding", "contrastive"):
        return False
    wide = output.double()
    return bool(torch.isclose(prediction.double(), wide / wide.norm(dim=-1, keepdim=True), rtol=4e-3, atol=1e-3).all())


def _not_probabilities(subject: Subject, prediction: Tensor, tolerance: float) -> str | None:
    low, high = float(prediction.min()), float(prediction.max())
    if low < -tolerance or high > 1 + tolerance:
        return f"they range from {low:.4g} to {high:.4g}"
    if subject.inputs.simplex is not None:
        off = float((prediction.double().sum(subject.inputs.simplex) - 1).abs().max())
        if off > tolerance:
            return f"they miss a sum of one by {off:.3g}"
    return None


def docstring_is_complete(subject: Subject) -> str:
    """The docstring has a summary, maths, every parameter, shapes, units, errors, the source, and an example that runs."""
    spec = subject.need_spec("the form of a docstring is a rule for registered objectives")
    text = inspect.getdoc(spec.cls) or ""
    if spec.cls.__doc__ is None or not text:
        raise Failed("there is no docstring")
    parts = {
        "maths": ".. math::",
        "Shape": "Shape:",
        "Units": "Units:",
        "Errors": "Errors:",
        "Source": "Source:",
        "an example": ">>>",
    }
    missing = [what for what, mark in parts.items() if mark not in text]
    if missing:
        raise Failed(f"the docstring lacks {', '.join(missing)}")
    summary = text.partition("\n")[0]
    if not summary.endswith("."):
        raise Failed(f"the first line is not one sentence: {summary!r}")
    untold = [parameter.name for parameter in spec.parameters if parameter.name not in text.partition("Args:")[2]]
    if untold:
        raise Failed(f"Args does not mention {', '.join(untold)}")
    module = inspect.getmodule(spec.cls)
    names = {**vars(module), "torch": torch} if module is not None else {"torch": torch}
    example = doctest.DocTestParser().get_doctest(text, names, spec.cls.__name__, None, 0)
    if spec.cls.__name__ not in "".join(e.source for e in example.examples):
        raise Failed(f"the example does not use {spec.cls.__name__}")
    heard: list[str] = []
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    result = runner.run(example, out=heard.append)
    if result.failed:
        raise Failed(f"the example does not give what it says: {first_line(' '.join(''.join(heard).split()[-12:]))}")
    return f"{len(text.splitlines())} lines, {len(example.examples)} examples"


def declared_properties(subject: Subject) -> str:
    """What the spec declares is what happens: soft targets, values per sample, waivers of checks that exist, extra inputs."""
    spec = subject.need_spec("it declares nothing")
    loss = subject.make()
    _draws_as_declared(subject, loss)
    if subject.inputs.takes_space and not spec.spatial and _takes_space(subject, loss):
        raise Failed("declared to take no spatial dimensions, yet it does")
    if not spec.decomposable and spec.proper:
        raise Failed("declared proper, which only a loss of single samples can be: it is a function of the batch as a whole")
    if subject.family in ("classification", "multilabel"):
        _soft_targets_as_declared(subject, spec, loss)
    for parameter in spec.exact_gradient_with:
        if not spec.takes(parameter):
            raise Failed(f"exact_gradient_with names {parameter!r}, which is not a parameter")
    accepted = keywords_of(type(loss).forward)
    for wanted in spec.requires:
        if wanted not in accepted:
            raise Failed(f"it requires {wanted!r}, which forward does not take")
    from lossary.testing import CHECKS

    for waived, reason in spec.waivers.items():
        if waived not in CHECKS:
            raise Failed(f"it waives {waived!r}, which is no check")
        if len(reason.split()) < 3:
            raise Failed(f"the waiver of {waived} gives no reason")
    return f"soft targets: {'yes' if spec.soft_targets else 'no'}, per sample: {'yes' if spec.decomposable else 'no'}"


def _soft_targets_as_declared(subject: Subject, spec: Spec, loss: nn.Module) -> None:
    """Soft targets are refused, or cost the mixture of what their classes cost."""
    batch = subject.batch(6, kind="soft", loss=loss)
    soft = batch.target
    if subject.family == "classification" and not spec.soft_targets:
        must_refuse(subject, [("a soft target, declared to be refused", "target", lambda: call(loss, batch))])
    if not spec.soft_targets or spec.stochastic or not spec.decomposable:
        return
    if subject.family == "classification":
        try:
            value = call(loss, batch)
        except Exception as error:
            raise Failed(f"declared to take soft targets, but {first_line(str(error))}") from error
        single = [batch.take(slice(i, i + 1)) for i in range(6)]
        classes = [torch.full((1,), c) for c in range(subject.inputs.classes)]
        hard = torch.stack([call(loss, one.targeted(label)) for one in single for label in classes])
        mixed = (hard.reshape(6, -1) * soft).sum(1).mean()
        if "weight" not in subject.given:  # a class weight divides out of the mean of one sample
            agree("a soft target against the mixture of its classes", value, mixed)
    elif "weight" not in subject.given and subject.takes("reduction"):
        each = subject.make(reduction="none")
        zero, one = (call(each, batch.targeted(torch.full_like(soft, label))) for label in (0.0, 1.0))
        agree("a soft label against the mixture of its two values", call(each, batch), soft * one + (1 - soft) * zero)


def _draws_as_declared(subject: Subject, loss: nn.Module) -> None:
    """Fail where a loss that is declared stochastic gives the same value and gradient for every random state."""
    if not subject.stochastic:
        return  # a loss that draws in secret changes the random state, which is another check's business
    batch = subject.batch(6, loss=loss)
    found = []
    for seed in range(3):
        leaf = batch.output.clone().requires_grad_()
        seen = batch.changed({next(iter(batch.given)): leaf})
        with seeded(seed):
            value = loss(*seen.arguments, **seen.sides)
        found.append((value.detach(), torch.autograd.grad(value.sum(), leaf)[0]))
    if all(torch.equal(value, found[0][0]) and torch.equal(gradient, found[0][1]) for value, gradient in found):
        raise Failed("declared stochastic, yet three random states give the same value and gradient")


def _takes_space(subject: Subject, loss: nn.Module) -> bool:
    try:
        call(loss, subject.batch(6, space=(3,), loss=loss))
    except Exception:
        return False
    return True


def side_inputs(subject: Subject) -> str:
    """Each input that it wants by keyword makes a difference, and is refused when left out, too short, or of a wrong dtype.

    What it can do without is refused alike where it is given.
    """
    loss = subject.make()
    bare, full = (subject.batch(6, loss=loss, kind=kind) for kind in (subject.kinds[0], subject.kinds[-1]))
    if not full.sides:
        raise NotApplicable("it wants nothing beyond its first inputs")
    plain = _outcome_of(loss, bare)
    for name in bare.sides:
        others = [
            bare.changed({name: subject.batch(6, loss=loss, side_seed=seed, kind=subject.kinds[0]).given[name]})
            for seed in (1, 2, 3)
        ]
        if all(_equal(_outcome_of(loss, other), plain) for other in others):
            raise Failed(f"three other values of {name} give the same loss and gradient: it is not read")
    cases: list[Case] = []
    for name in bare.sides:
        without = bare.without(name)
        cases.append((f"no {name}", name, partial(loss, *without.arguments, **without.sides)))
    for name, side in full.sides.items():
        if isinstance(side, Tensor):
            wrong = {f"{name} of another batch size": side[:-1], f"{name} that is no tensor": side.tolist()}
            wrong[f"{name} of a wrong dtype"] = (
                side.long() if side.is_floating_point() or side.dtype == torch.bool else side.double()
            )
            cases += [(said, name, partial(loss, *full.arguments, **{**full.sides, name: bad})) for said, bad in wrong.items()]
    return f"{', '.join(full.sides)}; {must_refuse(subject, cases)}"


def _outcome_of(loss: nn.Module, batch: Batch) -> list[Tensor]:
    """The value, the gradient, and what a loss with a memory remembers afterwards."""
    value, gradient = value_and_gradient(loss, batch)
    if "index" in batch.given:
        loss = copy.deepcopy(loss)
        with torch.no_grad(), seeded():
            loss(*batch.arguments, **batch.sides)
    return [value, gradient, *loss.state_dict().values()]


def _equal(left: list[Tensor], right: list[Tensor]) -> bool:
    return all(torch.equal(a.nan_to_num(12345.0), b.nan_to_num(12345.0)) for a, b in zip(left, right, strict=True))
