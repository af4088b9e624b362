"""The suite of metrics: functions of predictions and truth, whose inputs are made from the names of their arguments."""

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lossary.testing._card import Card
from lossary.testing._outcome import Failed, NotApplicable
from lossary.testing._refusals import Case, must_refuse
from lossary.testing._table import Table
from lossary.testing._unit import UnitSubject, no_trace, one_sentence, refuses_values, same_numbers, tensors_in, unit_subject

Arguments = dict[str, Tensor]
CLASSES, WIDTH = 3, 4
MADE: dict[str, object] = {"n": 2, "k": 2, "temperature": 0.5}


def _draw(name: str, names: Iterable[str], n: int, generator: torch.Generator, tied: bool) -> Tensor | None:
    """A tensor for an argument of a metric, or None for a name that is not known; float64, rows first."""

    def numbers(*shape: int) -> Tensor:
        values = torch.randn(shape, generator=generator, dtype=torch.float64)
        return values[torch.arange(n) % 2] if tied and n else values

    if name in ("embedding", "x", "a", "b", "queries", "bank", "logits", "scores"):
        return numbers(n, CLASSES if name == "logits" else WIDTH)
    if name in ("confidence", "prob"):
        return numbers(n).sigmoid()
    if name in ("labels", "target", "model_samples", "target_samples"):
        return torch.randint(CLASSES, (n,), generator=generator)
    if name == "relevance":
        return torch.randint(3, (n, WIDTH), generator=generator)
    if name == "correct":
        return torch.randint(2, (n,), generator=generator)
    if name == "samples":
        return torch.full((n,), 4)
    return None


def arguments(subject: UnitSubject, n: int = 12, seed: int = 0, tied: bool = False) -> Arguments:
    """The tensors of a call, by argument; with ties, rows are copies of two."""
    if subject.extra is not None:
        return dict(subject.extra(n, seed))
    generator = torch.Generator().manual_seed(seed)
    made: Arguments = {}
    for name, parameter in subject.keywords.items():
        if parameter.default is not parameter.empty or name in subject.parameters:
            continue
        drawn = _draw(name, subject.keywords, n, generator, tied)
        if drawn is None:
            raise NotApplicable(f"inputs for its argument {name!r} are not known, and none are given")
        made[name] = drawn
    return made


def value(subject: UnitSubject, given: Mapping[str, Tensor], **changed: object) -> object:
    return subject.target(**{**subject.parameters, **given, **changed})


def numbers(result: object) -> Tensor:
    """All numbers of a result in ascending order, so that those of rows have no order."""
    flat = [tensor.detach().double().flatten() for tensor in tensors_in(result)]
    return torch.cat(flat).sort().values if flat else torch.empty(0)


def _floating(given: Arguments) -> list[str]:
    return [name for name, tensor in given.items() if tensor.is_floating_point()]


def _permuted(subject: UnitSubject, tied: bool) -> str:
    for seed in range(3):
        given = arguments(subject, seed=seed, tied=tied)
        order = torch.randperm(12, generator=torch.Generator().manual_seed(seed + 10))
        moved = {name: tensor[order] for name, tensor in given.items()}
        same_numbers("rows in another order", numbers(value(subject, moved)), numbers(value(subject, given)), rtol=1e-6, atol=1e-7)
    return "three orders of twelve rows"


def order_of_the_rows(subject: UnitSubject) -> str:
    """The order of the rows does not matter."""
    return _permuted(subject, tied=False)


def order_of_ties(subject: UnitSubject) -> str:
    """The order of rows that are copies of two does not matter either: ties are worth their average over orders."""
    return _permuted(subject, tied=True)


def nan_gives_nan(subject: UnitSubject) -> str:
    """One NaN in an input gives NaN, or a refusal in one sentence."""
    given = arguments(subject)
    if not _floating(given):
        raise NotApplicable("none of its inputs is floating point")
    for name in _floating(given):
        spoiled = given[name].clone()
        spoiled.view(-1)[1] = math.nan
        try:
            found = numbers(value(subject, {**given, name: spoiled}))
        except Exception as error:
            one_sentence(subject, f"NaN in {name}", error)
            continue
        if not bool(found.isnan().any()):
            raise Failed(f"NaN in {name} gives {found[0].item() if found.numel() else 'nothing'}")
    return ", ".join(_floating(given))


def inputs_and_state_untouched(subject: UnitSubject) -> str:
    """The inputs, the gradient mode and the global random state are left alone."""
    given = arguments(subject)
    return no_trace(partial(value, subject, given), given)


def needs_no_gradient(subject: UnitSubject) -> str:
    """Inputs that require a gradient, and inference mode, give the same value."""
    given = arguments(subject)
    expected = numbers(value(subject, given))
    tracked = {name: tensor.clone().requires_grad_(tensor.is_floating_point()) for name, tensor in given.items()}
    same_numbers("inputs that require a gradient", numbers(value(subject, tracked)), expected, rtol=1e-9, atol=1e-12)
    with torch.inference_mode():
        same_numbers("inference mode", numbers(value(subject, given)), expected, rtol=1e-9, atol=1e-12)
    return "required gradients and inference mode"


def dtypes_agree(subject: UnitSubject) -> str:
    """float32 and half precision give the value of the same numbers in float64, and float32 at least."""
    given = arguments(subject)
    if not _floating(given):
        raise NotApplicable("none of its inputs is floating point")
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        narrow = {name: t.to(dtype) if t.is_floating_point() else t for name, t in given.items()}
        wide = {name: t.double() if t.is_floating_point() else t for name, t in narrow.items()}
        result = value(subject, narrow)
        same_numbers(f"{dtype}", numbers(result), numbers(value(subject, wide)), rtol=1e-4, atol=1e-4)
        if any(t.dtype in (torch.float16, torch.bfloat16) for t in tensors_in(result)):
            raise Failed(f"inputs of {dtype} give a result in half precision")
    return "float32, float16 and bfloat16"


def layout_does_not_matter(subject: UnitSubject) -> str:
    """Inputs that are not contiguous give the same value."""
    given = arguments(subject)
    spread = {name: torch.stack([t, t], -1)[..., 0] for name, t in given.items()}
    same_numbers("strided inputs", numbers(value(subject, spread)), numbers(value(subject, given)), rtol=1e-6, atol=1e-7)
    return "strided inputs"


def empty_input(subject: UnitSubject) -> str:
    """No rows at all give the declared value, else a finite number or NaN, or a refusal in one sentence."""
    given = arguments(subject, 0)
    try:
        found = numbers(value(subject, given))
    except Exception as error:
        one_sentence(subject, "no rows", error)
        return "refused"
    if subject.spec is not None and "empty" in subject.spec.declares:
        same_numbers("no rows", found, torch.as_tensor([float(subject.spec.declares["empty"])]))  # type: ignore[arg-type]
    if bool(found.isinf().any()):
        raise Failed("no rows give infinity")
    return f"{found[0].item():g}" if found.numel() else "nothing"


def refuses_wrong_tensors(subject: UnitSubject) -> str:
    """A tensor of a wrong length or number of dimensions, or no tensor, is refused in one sentence."""
    given = arguments(subject)
    cases: list[Case] = []
    paired = [name for name in given if name not in ("model_samples", "target_samples", "queries", "bank")]
    cases += [(f"{name} of another length", "", partial(value, subject, {**given, name: given[name][:-1]})) for name in paired[1:]]
    for name in _floating(given):
        cases.append((f"{name} of integers", name, partial(value, subject, {**given, name: given[name].long()})))
        if given[name].ndim > 1:
            cases.append((f"{name} of one dimension", name, partial(value, subject, {**given, name: given[name][:, 0]})))
    nothing: Any = None
    cases += [(f"no {name}", name, partial(value, subject, {**given, name: nothing})) for name in given]
    return must_refuse(subject, cases)


def refuses_wrong_parameters(subject: UnitSubject) -> str:
    """Parameters outside their ranges are refused in one sentence."""
    given = arguments(subject)
    return refuses_values(subject, partial(value, subject, given), {"k": [0]})


def within_bounds(subject: UnitSubject) -> str:
    """The value lies within the declared bounds."""
    low, high = subject.declared("bounds")
    for seed in range(5):
        for tied in (False, True):
            found = numbers(value(subject, arguments(subject, seed=seed, tied=tied)))
            if bool((found < low - 1e-6).any() | (found > high + 1e-6).any()):
                raise Failed(f"{found.min().item():.6g} to {found.max().item():.6g}, outside of {low} to {high}")
    return f"{low} to {high}"


def perfect_prediction(subject: UnitSubject) -> str:
    """A perfect prediction has the declared best value."""
    best = subject.declared("perfect")
    given = arguments(subject)
    for name, truth in (
        ("embedding", "labels"),
        ("x", "labels"),
        ("logits", "target"),
        ("scores", "relevance"),
        ("confidence", "correct"),
    ):
        if name in given and truth in given:
            goal = given[truth]
            one_hot = torch.nn.functional.one_hot(goal.long(), WIDTH if name != "logits" else CLASSES).double() * 60
            given[name] = goal.double() if name in ("scores", "confidence") else one_hot
            break
    else:
        raise NotApplicable("what a perfect prediction is does not follow from its arguments")
    same_numbers("a perfect prediction", numbers(value(subject, given)), torch.tensor([float(best)]), rtol=1e-5, atol=1e-5)
    return f"{best:g}"


TABLE = Table[UnitSubject](
    order_of_the_rows,
    order_of_ties,
    nan_gives_nan,
    inputs_and_state_untouched,
    needs_no_gradient,
    dtypes_agree,
    layout_does_not_matter,
    empty_input,
    refuses_wrong_tensors,
    refuses_wrong_parameters,
    within_bounds,
    perfect_prediction,
)


def check_metric(
    metric: object,
    *,
    only: Iterable[str] | None = None,
    parameters: Mapping[str, object] | None = None,
    inputs: Callable[[int, int], Mapping[str, Tensor]] | None = None,
) -> Card:
    """Run the checks on a metric and return its card.

    Args:
        metric: a registered name, ``"module:attribute"``, or a function.
        only: names of the checks to run; all by default.
        parameters: parameters to call it with, beside its tensors.
        inputs: a function of a number of rows and a seed that returns the tensors of a call by argument, rows in dimension 0;
            for a metric with arguments whose names the suite does not know.
    """
    return TABLE.card(unit_subject(metric, "diagnostic", parameters, inputs, MADE), only)
