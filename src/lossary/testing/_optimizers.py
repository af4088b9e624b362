"""The suite of optimizers: fixed gradients in, parameters out."""

import copy
import inspect
import math
import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from lossary.testing._card import Card
from lossary.testing._outcome import Failed, NotApplicable
from lossary.testing._refusals import must_refuse
from lossary.testing._table import Table
from lossary.testing._unit import SIZES, UnitSubject, no_trace, one_sentence, refuses_values, same_numbers, unit_subject

Gradients = Sequence[Tensor]
Reference = Callable[[list[Tensor], list[list[Tensor]], dict[str, Any]], list[Tensor]]
SHAPES: tuple[tuple[int, ...], ...] = ((3, 2), (4,), ())


def parameters(dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_() for shape in SHAPES]


def gradients(step: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(100 + step)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]


def build(subject: UnitSubject, moved: Any, **changed: object) -> Any:
    """The optimizer with momentum, where it has any, so that there is a state to keep."""
    momentum = {"momentum": 0.9} if "momentum" in subject.keywords and "momentum" not in subject.parameters else {}
    return subject.target(moved, **{**momentum, **subject.parameters, **changed})


def step(optimizer: Any, moved: Sequence[Tensor], given: Gradients) -> None:
    for parameter, gradient in zip(moved, given, strict=True):
        parameter.grad = gradient.to(parameter.dtype).clone()
    optimizer.step()


def steps(subject: UnitSubject, count: int = 3, **changed: object) -> list[Tensor]:
    moved = parameters()
    optimizer = build(subject, moved, **changed)
    for number in range(count):
        step(optimizer, moved, gradients(number))
    return moved


def follows_the_reference(subject: UnitSubject) -> str:
    """Three steps along fixed gradients end where the reference does."""
    if subject.extra is None:
        raise NotApplicable("no reference is given")
    optimizer = build(subject, parameters())
    options = {key: value for key, value in optimizer.param_groups[0].items() if key != "params"}
    expected = subject.extra([p.detach() for p in parameters()], [gradients(number) for number in range(3)], options)
    same_numbers("after three steps", steps(subject), expected, rtol=1e-9, atol=1e-12)
    return "three steps"


def zero_gradient_moves_nothing(subject: UnitSubject) -> str:
    """Without momentum or weight decay, a gradient of zero leaves every parameter where it is."""
    off = {key: 0.0 for key in ("weight_decay",) if key in subject.keywords}
    moved = parameters()
    optimizer = build(subject, moved, **off)
    step(optimizer, moved, [torch.zeros_like(p) for p in moved])
    same_numbers("a step along zero", moved, parameters())
    return "a first step along zero"


def nan_gradient_is_not_hidden(subject: UnitSubject) -> str:
    """A gradient that is NaN is seen in the parameter, or refused in one sentence."""
    moved = parameters()
    given = gradients(0)
    given[1][2] = math.nan
    try:
        step(build(subject, moved), moved, given)
    except Exception as error:
        one_sentence(subject, "a gradient of NaN", error)
        return "refused"
    if not bool(moved[1][2].isnan()):
        raise Failed(f"the parameter is {moved[1][2].item():.6g} after a gradient of NaN")
    return "the parameter is NaN"


def resume_is_uninterrupted(subject: UnitSubject) -> str:
    """Steps after loading a ``state_dict`` are those of a run without interruption."""
    expected = steps(subject, 4)
    moved = steps(subject, 2)
    first = parameters()
    optimizer = build(subject, first)
    for number in range(2):
        step(optimizer, first, gradients(number))
    saved = copy.deepcopy(optimizer.state_dict())
    other = [p.detach().clone().requires_grad_() for p in moved]
    resumed = build(subject, other)
    resumed.load_state_dict(saved)
    for number in (2, 3):
        step(resumed, other, gradients(number))
    same_numbers("resumed after two of four steps", other, expected)
    return "two of four steps"


def groups_have_options_of_their_own(subject: UnitSubject) -> str:
    """A group with ``lr=0`` stays where it is, also one that is added later, and the others move."""
    subject.need("lr")
    moved = parameters()
    optimizer = build(subject, [{"params": [moved[0]], "lr": 0.0}, {"params": [moved[1]]}])
    optimizer.add_param_group({"params": [moved[2]], "lr": 0.0})
    step(optimizer, moved, gradients(0))
    same_numbers("the groups with lr=0", [moved[0], moved[2]], [parameters()[0], parameters()[2]])
    if torch.equal(moved[1], parameters()[1]):
        raise Failed("the group with the default lr does not move")
    return "three groups"


def closure_is_called_once(subject: UnitSubject) -> str:
    """``step(closure)`` calls the closure with gradients enabled, and returns its loss."""
    if "closure" not in inspect.signature(getattr(subject.target, "step", lambda: None)).parameters:
        raise NotApplicable("its step takes no closure")
    moved = parameters()
    optimizer, calls = build(subject, moved), []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = torch.stack([p.square().sum() for p in moved]).sum()
        loss.backward()
        calls.append(loss.detach())
        return loss

    returned = optimizer.step(closure)
    if not calls or returned is None or float(torch.as_tensor(returned).detach()) != float(calls[-1]):
        raise Failed(f"it returns {returned} where the closure gives {calls[-1].item() if calls else 'nothing'}")
    return f"{len(calls)} calls"


def maximize_turns_the_gradient(subject: UnitSubject) -> str:
    """With ``maximize=True`` it steps as along the negative gradient."""
    subject.need("maximize")
    up, down = parameters(), parameters()
    turned, plain = build(subject, up, maximize=True), build(subject, down)
    for number in range(2):
        step(turned, up, gradients(number))
        step(plain, down, [-g for g in gradients(number)])
    same_numbers("maximize=True", up, down, rtol=1e-12, atol=1e-14)
    return "two steps"


def foreach_is_the_loop(subject: UnitSubject) -> str:
    """``foreach=True`` and ``foreach=False`` take the same steps."""
    subject.need("foreach")
    same_numbers("foreach=True", steps(subject, foreach=True), steps(subject, foreach=False), rtol=1e-12, atol=1e-14)
    return "three steps"


def sparse_and_complex(subject: UnitSubject) -> str:
    """A sparse gradient moves its rows as the dense one does, and a complex parameter moves, or one sentence refuses them."""
    said = []
    table = torch.ones(4, 2, dtype=torch.float64, requires_grad=True)
    dense = torch.ones(4, 2, dtype=torch.float64, requires_grad=True)
    slope = torch.tensor([[1.0, -2.0], [0.0, 0.0], [3.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    wave = torch.ones(3, dtype=torch.complex128, requires_grad=True)
    for what, parameter, gradient in (
        ("sparse", table, slope.to_sparse(1)),
        ("complex", wave, torch.full((3,), 1 + 2j, dtype=torch.complex128)),
    ):
        before = parameter.detach().clone()
        try:
            optimizer = build(subject, [parameter])
            parameter.grad = gradient
            optimizer.step()
        except Exception as error:
            if subject.spec is not None or not isinstance(error, RuntimeError):  # which PyTorch's own raise
                one_sentence(subject, f"a {what} one", error)
            said.append(f"{what} refused")
            continue
        if torch.equal(before, parameter):
            raise Failed(f"a {what} gradient moves nothing, in silence")
        if what == "sparse":
            step(build(subject, [dense]), [dense], [slope])
            same_numbers("a sparse gradient", table, dense, rtol=1e-12)
        said.append(f"{what} taken")
    return ", ".join(said)


def half_precision(subject: UnitSubject) -> str:
    """Parameters of half precision keep their dtype, and step as in float32 up to rounding."""
    for dtype in (torch.float16, torch.bfloat16):
        half = parameters(dtype)
        wide = [p.detach().float().requires_grad_() for p in half]
        given = [g.to(dtype).float() for g in gradients(0)]
        step(build(subject, half), half, given)
        step(build(subject, wide), wide, given)
        if any(p.dtype != dtype for p in half):
            raise Failed(f"parameters of {dtype} have become {[str(p.dtype) for p in half]}")
        same_numbers(f"{dtype}", half, wide, rtol=8 * torch.finfo(dtype).eps, atol=8 * torch.finfo(dtype).eps)
    return "float16 and bfloat16"


def weight_decay_as_declared(subject: UnitSubject) -> str:
    """Decoupled weight decay shrinks parameters by lr times it before the step; coupled, it is part of the gradient."""
    subject.need("weight_decay")
    declared = subject.declared("weight_decay")
    found, moved = steps(subject, weight_decay=0.5), parameters()
    optimizer = build(subject, moved, weight_decay=0.0)
    for number in range(3):
        given = gradients(number)
        if declared == "coupled":
            given = [g + 0.5 * p.detach() for g, p in zip(given, moved, strict=True)]
        else:
            with torch.no_grad():
                for p in moved:
                    p.mul_(1 - optimizer.param_groups[0]["lr"] * 0.5)
        step(optimizer, moved, given)
    same_numbers(f"{declared} weight decay", found, moved, rtol=1e-9, atol=1e-12)
    return str(declared)


def copies_and_pickles(subject: UnitSubject) -> str:
    """A deep copy and a pickle of parameters and optimizer go on as the original does."""
    moved = parameters()
    optimizer = build(subject, moved)
    step(optimizer, moved, gradients(0))
    twins = [copy.deepcopy((moved, optimizer)), pickle.loads(pickle.dumps((moved, optimizer)))]
    step(optimizer, moved, gradients(1))
    for what, (parameters_of_twin, twin) in zip(("deep copy", "pickle"), twins, strict=True):
        step(twin, parameters_of_twin, gradients(1))
        same_numbers(f"a step after a {what}", parameters_of_twin, moved)
    return "deep copy and pickle"


def schedulers_set_the_rate(subject: UnitSubject) -> str:
    """A scheduler of PyTorch changes the length of the next step."""
    subject.need("lr")
    moved = parameters()
    optimizer = build(subject, moved)
    if not isinstance(optimizer, Optimizer):
        raise Failed(f"{type(optimizer).__name__} is no torch.optim.Optimizer, which schedulers ask for")
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1.0 if epoch < 1 else 0.0)
    step(optimizer, moved, gradients(0))
    scheduler.step()
    before = [p.detach().clone() for p in moved]
    step(optimizer, moved, gradients(1))
    same_numbers("a step at a scheduled rate of 0", moved, before)
    return "a scheduled rate of 0"


def without_gradient_nothing_moves(subject: UnitSubject) -> str:
    """A parameter whose ``grad`` is None stays and gets no state."""
    moved = parameters()
    optimizer = build(subject, moved, **({"weight_decay": 0.5} if "weight_decay" in subject.keywords else {}))
    optimizer.step()
    same_numbers("a step without any gradient", moved, parameters())
    moved[0].grad = gradients(0)[0]
    optimizer.step()
    same_numbers("parameters without a gradient", moved[1:], parameters()[1:])
    if any(moved[number] in optimizer.state and optimizer.state[moved[number]] for number in (1, 2)):
        raise Failed("a parameter without a gradient has a state")
    return "no gradient, and one of three"


def leaves_no_trace(subject: UnitSubject) -> str:
    """A step leaves the gradients, the gradient mode and the global random state alone."""
    moved = parameters()
    optimizer = build(subject, moved)
    step(optimizer, moved, gradients(0))
    given = {f"gradient {number}": gradient for number, gradient in enumerate(gradients(1))}
    for p, gradient in zip(moved, given.values(), strict=True):
        p.grad = gradient
    return no_trace(optimizer.step, given)


def refuses_wrong_parameters(subject: UnitSubject) -> str:
    """Options outside their ranges, and no parameters at all, are refused in one sentence."""
    said = refuses_values(subject, lambda **bad: build(subject, parameters(), **bad), {"lr": [-1.0], "momentum": [-1.0]})
    must_refuse(subject, [("no parameters", "params" if subject.spec is not None else "", partial(build, subject, []))])
    return said


TABLE = Table[UnitSubject](
    follows_the_reference,
    zero_gradient_moves_nothing,
    nan_gradient_is_not_hidden,
    resume_is_uninterrupted,
    groups_have_options_of_their_own,
    closure_is_called_once,
    maximize_turns_the_gradient,
    foreach_is_the_loop,
    sparse_and_complex,
    half_precision,
    weight_decay_as_declared,
    copies_and_pickles,
    schedulers_set_the_rate,
    without_gradient_nothing_moves,
    leaves_no_trace,
    refuses_wrong_parameters,
)


def check_optimizer(
    optimizer: object,
    *,
    only: Iterable[str] | None = None,
    parameters: Mapping[str, object] | None = None,
    reference: Reference | None = None,
) -> Card:
    """Run the checks on an optimizer and return its card.

    Args:
        optimizer: a registered name, ``"module:attribute"``, or a class.
        only: names of the checks to run; all by default.
        parameters: options to build it with, beside the parameters that it moves.
        reference: a function of first parameters, the gradients of each step, and options, that returns the last parameters.
    """
    return TABLE.card(unit_subject(optimizer, "optimizer", parameters, reference, SIZES), only)
