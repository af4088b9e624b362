"""The suite of layers: modules whose sizes and inputs are made from the names of their arguments."""

import copy
import inspect
import pickle
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lossary.testing._card import Card
from lossary.testing._outcome import Failed, NotApplicable
from lossary.testing._refusals import Case, must_refuse
from lossary.testing._subject import seeded
from lossary.testing._table import Table
from lossary.testing._unit import SIZES, UnitSubject, no_trace, refuses_values, same_numbers, tensors_in, unit_subject

Inputs = dict[str, Tensor]
ROWS, TOKENS, WIDTH = 4, 5, 6


def module(subject: UnitSubject, seed: int = 0) -> nn.Module:
    """The layer with the same weights each time, in evaluation mode; one that learns by ``enroll`` has seen some samples."""
    if not (inspect.isclass(subject.target) and issubclass(subject.target, nn.Module)):
        raise NotApplicable("it is no torch.nn.Module")
    with seeded(seed):
        built: nn.Module = subject.target(**_fresh(subject.parameters))
    enroll = getattr(built, "enroll", None)
    if callable(enroll):
        enroll(inputs(subject)["embedding"].float(), torch.arange(ROWS) % 3)
    return built.eval()


def _fresh(parameters: Mapping[str, object]) -> dict[str, object]:
    return {name: copy.deepcopy(value) if isinstance(value, nn.Module) else value for name, value in parameters.items()}


def inputs(subject: UnitSubject, n: int = ROWS, dtype: torch.dtype = torch.float32) -> Inputs:
    """The tensors of a call, by argument of ``forward``."""
    if subject.extra is not None:
        return {name: t.to(dtype) if t.is_floating_point() else t for name, t in subject.extra(n).items()}
    sizes, generator = subject.parameters, torch.Generator().manual_seed(0)
    made: Inputs = {}
    for name, parameter in inspect.signature(subject.target.forward).parameters.items():  # type: ignore[attr-defined]
        shape: tuple[int, ...] | None = {
            "hidden": (n, TOKENS, _size(sizes, "hidden_dim")),
            "embedding": (n, _size(sizes, "embedding_dim")),
            "features": (n, _size(sizes, "num_features", "in_dim")),
            "logits": (n, _size(sizes, "num_classes")),
            "x": (n, _size(sizes, "in_features")),
            "input": (n, _size(sizes, "in_features")),
            "inputs": (n, WIDTH),
        }.get(name)
        if shape is not None:
            made[name] = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
        elif name != "self" and parameter.default is parameter.empty:
            raise NotApplicable(f"inputs for its argument {name!r} are not known, and none are given")
    return made


def _size(sizes: Mapping[str, object], *names: str) -> int:
    return next((size for name in names if isinstance(size := sizes.get(name), int)), WIDTH)


def call(layer: nn.Module, given: Inputs) -> Any:
    return layer(*given.values())


def differentiable(subject: UnitSubject) -> nn.Module:
    layer = module(subject)
    if not any(p.requires_grad for p in layer.parameters()):
        raise NotApplicable("it has no parameters that are trained")
    return layer


def rows_are_independent(subject: UnitSubject) -> str:
    """In evaluation mode each sample gets its own row of the output, the same in any batch."""
    layer, given = module(subject), inputs(subject)
    whole = tensors_in(call(layer, given))
    if not whole or any(t.shape[:1] != (ROWS,) for t in whole):
        raise Failed(f"{ROWS} samples give shapes {[tuple(t.shape) for t in whole]}")
    alone = tensors_in(call(layer, {name: t[1:2] for name, t in given.items()}))
    same_numbers("one sample alone", alone, [t[1:2] for t in whole], rtol=1e-4, atol=1e-5)
    return f"shapes {', '.join(str(tuple(t.shape)) for t in whole)}"


def dtype_follows_the_module(subject: UnitSubject) -> str:
    """``.double()`` computes in float64, near the values of float32."""
    layer, given = module(subject), inputs(subject)
    wide = tensors_in(
        call(copy.deepcopy(layer).double(), {name: t.double() if t.is_floating_point() else t for name, t in given.items()})
    )
    if any(t.is_floating_point() and t.dtype != torch.float64 for t in wide):
        raise Failed(f"float64 gives {[str(t.dtype) for t in wide]}")
    same_numbers("float32", tensors_in(call(layer, given)), wide, rtol=1e-3, atol=1e-4)
    return "float32 and float64"


def state_dict_round_trip(subject: UnitSubject) -> str:
    """A ``state_dict`` loaded into another module gives the same output."""
    layer, given = module(subject), inputs(subject)
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(0.1)
    other = module(subject, seed=1)
    other.load_state_dict(layer.state_dict())
    same_numbers("after load_state_dict", call(other, given), call(layer, given))
    return f"{len(layer.state_dict())} tensors"


def copies_and_pickles(subject: UnitSubject) -> str:
    """A deep copy and a pickle give the same output."""
    layer, given = module(subject), inputs(subject)
    for what, twin in (("deep copy", copy.deepcopy(layer)), ("pickle", pickle.loads(pickle.dumps(layer)))):
        same_numbers(f"a {what}", call(twin, given), call(layer, given))
    return "deep copy and pickle"


def train_and_eval(subject: UnitSubject) -> str:
    """Evaluation mode gives the same output twice, and changes no buffer; training mode runs."""
    layer, given = module(subject), inputs(subject)
    buffers = [b.clone() for b in layer.buffers()]
    same_numbers("evaluation mode, twice", call(layer, given), call(layer, given))
    same_numbers("buffers in evaluation mode", list(layer.buffers()), buffers)
    with seeded(0):
        call(layer.train(), given)
    return "evaluation mode twice, and training mode"


def autocast(subject: UnitSubject) -> str:
    """Under autocast to bfloat16 the output is finite and near that in float32."""
    layer, given = module(subject), inputs(subject)
    expected = tensors_in(call(layer, given))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = tensors_in(call(layer, given))
    same_numbers("autocast", found, expected, rtol=0.1, atol=0.1)
    return "bfloat16"


def compiles_whole(subject: UnitSubject) -> str:
    """``torch.compile(fullgraph=True)`` gives the same output."""
    layer, given = module(subject), inputs(subject)
    torch.compiler.reset()
    try:
        found = call(torch.compile(layer, fullgraph=True, backend="aot_eager"), given)  # type: ignore[arg-type]
    finally:
        torch.compiler.reset()
    same_numbers("compiled", found, call(layer, given), rtol=1e-4, atol=1e-5)
    return "one graph"


def functional_call_and_vmap(subject: UnitSubject) -> str:
    """``torch.func`` maps over stacked parameters of two models as a loop over the models does."""
    layer, given = differentiable(subject), inputs(subject)
    weights = {name: p.detach() for name, p in layer.named_parameters()}
    both = {name: torch.stack([p, p + 0.1]) for name, p in weights.items()}
    found = torch.func.vmap(lambda w: torch.func.functional_call(layer, w, tuple(given.values())))(both)
    for number in range(2):
        expected = torch.func.functional_call(layer, {name: p[number] for name, p in both.items()}, tuple(given.values()))
        same_numbers(f"model {number}", [t[number] for t in tensors_in(found)], tensors_in(expected), rtol=1e-4, atol=1e-5)
    return f"{len(weights)} parameters"


def gradient_reaches_every_parameter(subject: UnitSubject) -> str:
    """Every trained parameter gets a gradient that is finite and not zero everywhere."""
    layer, given = differentiable(subject), inputs(subject)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))  # away from a start at which some gradients are zero
    outputs = [t for t in tensors_in(call(layer, given)) if t.requires_grad]
    if not outputs:
        raise Failed("no output has a gradient")
    torch.stack([(t * torch.randn(t.shape, generator=generator)).sum() for t in outputs]).sum().backward()
    for name, p in layer.named_parameters():
        if p.requires_grad and (p.grad is None or not bool(p.grad.isfinite().all()) or not bool(p.grad.any())):
            raise Failed(f"{name} has {'no gradient' if p.grad is None else 'a gradient of zeros, or one that is not finite'}")
    return f"{sum(p.requires_grad for p in layer.parameters())} parameters"


def repr_shows_parameters(subject: UnitSubject) -> str:
    """``repr`` names every parameter that was given a number."""
    layer = module(subject)
    shown = {name: value for name, value in subject.parameters.items() if isinstance(value, (int, float))}
    if not shown:
        raise NotApplicable("it is built without numbers")
    for name, value in shown.items():
        if f"{name}={value}" not in layer.extra_repr():
            raise Failed(f"{name}={value} is not in {layer.extra_repr()!r}")
    return ", ".join(shown)


def reset_parameters(subject: UnitSubject) -> str:
    """``reset_parameters()`` draws all trained parameters anew, of the size of the first ones."""
    layer = differentiable(subject)
    reset = getattr(layer, "reset_parameters", None)
    if not callable(reset):
        raise Failed("it has trained parameters and no reset_parameters()")
    first = {name: p.detach().abs().max() for name, p in layer.named_parameters()}
    with torch.no_grad(), seeded(1):
        for p in layer.parameters():
            p.fill_(1e3)
        reset()
    for name, p in layer.named_parameters():
        if float(p.detach().abs().max()) > 10 * float(first[name]) + 1e-6:
            raise Failed(f"{name} reaches {p.detach().abs().max().item():.4g}, where it begins with {first[name].item():.4g}")
    return f"{len(first)} parameters"


def empty_batch(subject: UnitSubject) -> str:
    """In evaluation mode no sample gives an output without rows."""
    for t in tensors_in(call(module(subject), inputs(subject, 0))):
        if t.shape[:1] != (0,):
            raise Failed(f"no sample gives shape {tuple(t.shape)}")
    return "no sample"


def refuses_wrong_tensors(subject: UnitSubject) -> str:
    """A tensor of a wrong width, dtype or number of dimensions is refused in one sentence."""
    layer, given = module(subject), inputs(subject)
    if "inputs" in given:
        raise NotApplicable("it hands its inputs to another module")
    cases: list[Case] = []
    for name, t in given.items():
        if not (name == "logits" and "num_classes" not in subject.parameters):
            cases.append((f"{name} of another width", name, partial(call, layer, {**given, name: t[..., :-1]})))
        cases.append((f"{name} of one dimension", name, partial(call, layer, {**given, name: t.flatten()})))
        if t.is_floating_point():
            cases.append((f"{name} of integers", name, partial(call, layer, {**given, name: t.long()})))
    return must_refuse(subject, cases)


def refuses_wrong_parameters(subject: UnitSubject) -> str:
    """Parameters outside their ranges are refused in one sentence."""
    module(subject)
    guesses: dict[str, list[object]] = {name: [0, -1] for name, value in subject.parameters.items() if isinstance(value, int)}
    return refuses_values(subject, lambda **bad: subject.target(**{**_fresh(subject.parameters), **bad}), guesses)


def leaves_no_trace(subject: UnitSubject) -> str:
    """In evaluation mode a call leaves its inputs, the gradient mode and the global random state alone."""
    layer, given = module(subject), inputs(subject)
    return no_trace(partial(call, layer, given), given)


TABLE = Table[UnitSubject](
    rows_are_independent,
    dtype_follows_the_module,
    state_dict_round_trip,
    copies_and_pickles,
    train_and_eval,
    autocast,
    compiles_whole,
    functional_call_and_vmap,
    gradient_reaches_every_parameter,
    repr_shows_parameters,
    reset_parameters,
    empty_batch,
    refuses_wrong_tensors,
    refuses_wrong_parameters,
    leaves_no_trace,
)


def check_layer(
    layer: object,
    *,
    only: Iterable[str] | None = None,
    parameters: Mapping[str, object] | None = None,
    inputs: Callable[[int], Mapping[str, Tensor]] | None = None,
) -> Card:
    """Run the checks on a layer and return its card.

    Args:
        layer: a registered name, ``"module:attribute"``, or a class.
        only: names of the checks to run; all by default.
        parameters: parameters to build it with; sizes of usual names are made up.
        inputs: a function of a number of samples that returns the tensors of a call by argument, samples in dimension 0; for a
            layer with arguments whose names the suite does not know.
    """
    return TABLE.card(unit_subject(layer, "layer", parameters, inputs, {**SIZES, "module": nn.Linear(WIDTH, 4)}), only)
