"""Formulas written once, in PyTorch operations, as functions of numbers that loops can hold.

A loss says what an element costs in operations that work element by element. Here such a formula is run once, on one element, with
its gradient; the operations that PyTorch sees are written down as an expression of single float32 numbers, and Numba compiles that
into whatever loop wants it: for a second or so, once on a machine, as what was compiled is kept on disk. So the maths of a loss
stands in its own file alone, its slopes are those of PyTorch's own rules, and parameters such as an exponent stay arguments:
another value of them compiles nothing.

What cannot be written down (an operation that is not in the table, a tensor of data in the formula) has no such function, and the
caller goes on with PyTorch's operations.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

Formula = Callable[..., Tensor | tuple[Tensor, ...]]

UNKNOWN = 1 << 18  # elements from which a formula is worth the milliseconds that writing it down takes


@dataclass(frozen=True)
class Scalars:
    """A formula of numbers: ``formula(*inputs, constants)`` gives each output, each followed by its slopes by all inputs."""

    text: str
    constants: tuple[Any, ...]


class _NotWritableError(Exception):
    pass


class Known:
    """A formula that equals another of the same code and the same values around it, if these can be compared."""

    def __init__(self, formula: Formula):
        self.formula = formula
        try:
            self.key: object = _key(formula)
        except _NotComparableError:
            self.key = None
        self.hash = hash(self.key)

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Known) and self.key == other.key is not None


class _NotComparableError(Exception):
    pass


def ask(loop_of: Any, elements: int, formula: Known, *rest: Any) -> Any:
    """``loop_of(formula, *rest)``, a function that remembers what it gave; a formula that it cannot remember is written down each
    time, if there are so many elements that this is worth it, and else has no loop."""
    if formula.key is not None:
        return loop_of(formula, *rest)
    return loop_of.__wrapped__(formula, *rest) if elements >= UNKNOWN else None


def _key(value: Any) -> object:
    kind = type(value)
    if kind is FunctionType:
        code = value.__code__
        found = _reads.get(id(code))
        if found is None:
            found = _reads[id(code)] = code, _read_by(value, set())
        key: list[object] = [id(code)]
        if value.__defaults__:
            key.append(_key(value.__defaults__))
        if value.__closure__:
            key += [_key(cell.cell_contents) for cell in value.__closure__]
        if found[1]:
            key += [names.get(name) for names, name in found[1]]
        return tuple(key)
    if kind in SIMPLE:
        return kind, value
    if kind in (tuple, list):
        return tuple(map(_key, value))
    raise _NotComparableError


SIMPLE = (float, int, bool, str, type(None))

# By the identity of a function's code, which is kept so that no other gets it; its own hash takes long.
_reads: dict[int, tuple[CodeType, list[tuple[dict[str, Any], str]]]] = {}


def _read_by(function: FunctionType, seen: set[CodeType]) -> list[tuple[dict[str, Any], str]]:
    """What a function and those that it calls read of their modules and may be set anew, as people do in notebooks."""
    found = []
    seen.add(function.__code__)
    for name in function.__code__.co_names:
        value = function.__globals__.get(name)
        if isinstance(value, (bool, int, float, Tensor, FunctionType)):
            found.append((function.__globals__, name))
        if isinstance(value, FunctionType) and value.__code__ not in seen:
            found += _read_by(value, seen)
    return found


def scalars(formula: Formula, inputs: int, passed: int | None = None) -> Scalars | None:
    """A formula written down, or None if it cannot be: a function of so many numbers, of which the formula itself gets the first
    ``passed``."""
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast("cpu", enabled=False),
        _Writer() as writer,
    ):
        leaves = [torch.full((1,), 0.5, dtype=torch.float32, device="cpu", requires_grad=True) for _ in range(inputs)]
        try:
            for place, leaf in enumerate(leaves):
                writer.name(leaf, f"x{place}")
            found = formula(*leaves[: inputs if passed is None else passed])
            answers = []
            for value in found if isinstance(found, tuple) else (found,):
                slopes: Sequence[Tensor | None] = [None] * inputs
                if value.requires_grad:
                    slopes = torch.autograd.grad(value, leaves, retain_graph=True, allow_unused=True)
                answers += [writer.float(value), *("f32(0.0)" if slope is None else writer.float(slope) for slope in slopes)]
        except _NotWritableError:
            return None
    head = f"def formula({''.join(f'x{place}, ' for place in range(inputs))}constants):"
    if writer.constants:
        head += f"\n    {''.join(f'c{place}, ' for place in range(len(writer.constants)))}= constants"
    text = "\n    ".join([head, *writer.lines, f"return {', '.join(answers)}"])
    return Scalars(text, tuple(map(np.float32, writer.constants)))


@functools.lru_cache(maxsize=256)
def compiled(text: str) -> Any:
    """The function that was written down, for loops that are compiled."""
    from lossary._fast import mathematics

    names: dict[str, Any] = {"f32": mathematics.f32, "sqrt": mathematics.sqrt, "select": mathematics.select}
    names |= {name: getattr(mathematics, name) for name in mathematics.ELEMENTARY}
    exec(compile(text, "<formula>", "exec"), names)
    return mathematics.formula(names["formula"])


class _Writer(TorchDispatchMode):
    """Writes each operation down as a line of scalar code."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.lines: list[str] = []
        self.constants: list[float] = []
        self.names: dict[int, str] = {}
        self.known: list[Tensor] = []  # kept, so that no other tensor gets its id

    def name(self, tensor: Tensor, text: str) -> None:
        self.names[id(tensor)] = text
        self.known.append(tensor)

    def operand(self, value: Any) -> str:
        """How a number or a tensor is called."""
        if isinstance(value, Tensor):
            if id(value) not in self.names:
                if value.numel() != 1 or value.dtype not in (torch.float32, torch.float64, torch.bool) or value.requires_grad:
                    raise _NotWritableError  # data
                return self.operand(value.item())
            return self.names[id(value)]
        if isinstance(value, bool):
            return str(value)
        if value in (0, 1, -1, 2, 0.5):
            return f"f32({float(value)})"
        if math.isinf(value):
            return f"f32({'-' if value < 0 else ''}1e999)"
        if value in self.constants:
            return f"c{self.constants.index(value)}"
        self.constants.append(float(value))
        return f"c{len(self.constants) - 1}"

    def float(self, tensor: Tensor) -> str:
        name = self.operand(tensor)
        return f"select({name}, f32(1.0), f32(0.0))" if tensor.dtype == torch.bool else name

    def arguments(self, values: Sequence[Any]) -> list[str]:
        return [self.float(v) if isinstance(v, Tensor) else self.operand(v) for v in values]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else PyTorch imports its compiler here, which takes a second

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        operation = func.overloadpacket.__name__
        first = result[0] if isinstance(result, tuple) else result
        if not isinstance(first, Tensor) or first.dtype not in (torch.float32, torch.bool) or first.numel() != 1:
            raise _NotWritableError
        if operation.endswith("_"):  # in place: the tensor gets another name, if no other is a view of it
            operation = operation[:-1]
            if any(other is not first and other.data_ptr() == first.data_ptr() for other in self.known):
                raise _NotWritableError(operation)
        if operation in SAME:
            self.name(first, self.float(args[0]) if first.dtype != torch.bool else self.operand(args[0]))
            return result
        if operation in FILLED:
            self.name(first, self.operand(first.item()))
            return result
        if operation in LOGICAL:
            text = LOGICAL[operation](*(self.operand(a) for a in args))
        elif operation == "where":
            text = f"select({self.operand(args[0])}, {self.float(args[1])}, {self.float(args[2])})"
        elif operation == "masked_fill":
            text = f"select({self.operand(args[1])}, {self.arguments(args[2:])[0]}, {self.float(args[0])})"
        elif operation == "pow":
            text = self.power(*args)
        elif operation == "clamp":
            text = self.float(args[0])
            for bound, sign in zip(args[1:], "<>", strict=False):
                if bound is not None:
                    self.lines.append(f"s{len(self.lines)} = {text}")
                    text = f"s{len(self.lines) - 1}"
                    text = f"select({text} {sign} {self.operand(bound)}, {self.operand(bound)}, {text})"
        elif operation in WRITTEN:
            scale = (kwargs or {}).get("alpha", (kwargs or {}).get("value", 1))
            given = self.arguments(args)
            if scale != 1:
                given[-1] = f"({self.operand(scale)} * {given[-1]})"
            one = operation == "mul" and ONE in given  # the gradient begins with it
            text = given[1 - given.index(ONE)] if one else WRITTEN[operation](*given)
        else:
            raise _NotWritableError(operation)
        own = f"v{len(self.lines)}"
        self.lines.append(f"{own} = {text}")
        self.name(first, own)
        if isinstance(result, tuple):
            self.known += result  # a buffer for the slope, which is written without it
        return result

    def power(self, base: Any, exponent: Any) -> str:
        x = self.arguments([base])[0]
        if isinstance(exponent, Tensor) or not isinstance(base, Tensor):
            raise _NotWritableError
        if exponent == 0.5:
            return f"sqrt({x})"
        if float(exponent).is_integer() and abs(exponent) <= 16:  # products are several times faster
            factors, square, left = [], x, int(abs(exponent))
            while left:
                if left & 1:
                    factors.append(square)
                left >>= 1
                if left:
                    self.lines.append(f"s{len(self.lines)} = {square} * {square}")
                    square = f"s{len(self.lines) - 1}"
            product = " * ".join(factors) or "f32(1.0)"
            return product if exponent >= 0 else f"f32(1.0) / ({product})"
        return f"power({x}, {self.operand(exponent)})"


ONE = "f32(1.0)"
SAME = {"detach", "alias", "clone", "_to_copy", "view", "expand", "_unsafe_view", "lift_fresh"}
FILLED = {"ones_like", "zeros_like", "full_like", "scalar_tensor", "full", "zeros", "ones", "new_zeros", "new_ones", "new_full"}
LOGICAL: dict[str, Callable[..., str]] = {
    "gt": "{} > {}".format,
    "lt": "{} < {}".format,
    "ge": "{} >= {}".format,
    "le": "{} <= {}".format,
    "eq": "{} == {}".format,
    "ne": "{} != {}".format,
    "bitwise_not": "{} ^ True".format,
    "logical_not": "{} ^ True".format,
    "bitwise_and": "{} & {}".format,
    "logical_and": "{} & {}".format,
    "bitwise_or": "{} | {}".format,
    "logical_or": "{} | {}".format,
}
WRITTEN: dict[str, Callable[..., str]] = {
    "neg": "-{}".format,
    "abs": "abs({})".format,
    "add": "{} + {}".format,
    "sub": "{} - {}".format,
    "rsub": "{1} - {0}".format,
    "mul": "{} * {}".format,
    "div": "{} / {}".format,
    "reciprocal": "f32(1.0) / {}".format,
    "addcmul": "{} + {} * {}".format,
    "lerp": "{0} + {2} * ({1} - {0})".format,
    "exp": "exp({})".format,
    "expm1": "expm1({})".format,
    "log": "log({})".format,
    "log1p": "log1p({})".format,
    "sqrt": "sqrt({})".format,
    "sigmoid": "sigmoid({})".format,
    "log_sigmoid_forward": "log_sigmoid({})".format,
    "softplus": "softplus({0})".format,
    "relu": "select({0} < f32(0.0), f32(0.0), {0})".format,
    "clamp_min": "select({0} < {1}, {1}, {0})".format,
    "clamp_max": "select({0} > {1}, {1}, {0})".format,
    "maximum": "select({0} < {1}, {1}, {0})".format,
    "minimum": "select({0} > {1}, {1}, {0})".format,
    "sign": "select({0} > f32(0.0), f32(1.0), select({0} < f32(0.0), f32(-1.0), {0}))".format,
    "sgn": "select({0} > f32(0.0), f32(1.0), select({0} < f32(0.0), f32(-1.0), {0}))".format,
    "sigmoid_backward": "{0} * ({1} * (f32(1.0) - {1}))".format,
    "softplus_backward": "{0} * sigmoid({1})".format,
    "log_sigmoid_backward": "{0} * sigmoid(-{1})".format,
    "threshold_backward": "select({1} > {2}, {0}, f32(0.0))".format,
}
