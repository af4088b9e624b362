"""Recording a computation of fixed shapes once, to repeat it with hardly any Python.

A dispatch mode sees every plain tensor operation that a function comes down to, below ``vmap`` and autograd. The tensors that these
operations made are kept, and a replay writes into the very same ones: nothing is allocated, and what only looks at another tensor's
memory, does not depend on the inputs or is not needed has nothing to be done for it at all. Compiled loops, which no dispatch mode
sees, say themselves that they are called (``dispatch.call_compiled``).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map_only

from lossary._fast import dispatch

aten = torch.ops.aten
SHAPE_ONLY = (aten.ones_like, aten.zeros_like, aten.full_like, aten.new_zeros, aten.new_ones, aten.new_full)
KEEPS_STATISTICS = "the model or its objective keeps running statistics, which a recorded step would not update for each run"
READS = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)  # what depends on values in another way than by values


@dataclass(frozen=True)
class _Schema:
    """As much of an operator's schema as is asked for."""

    is_mutable: bool = False
    arguments: tuple[Any, ...] = ()


class _Compiled:
    """A compiled loop, which takes part as an operation that makes new tensors."""

    _schema, tags, overloadpacket = _Schema(), (), None

    def __init__(self, function: Callable[..., Any]):
        self.function = function

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)


@dataclass(frozen=True)
class _Operation:
    function: Any  # an operator overload of torch.ops, or a compiled loop
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    result: Any

    @property
    def reads(self) -> list[Tensor]:
        return _tensors((self.arguments, self.keywords))

    @property
    def makes(self) -> list[Tensor]:
        return _tensors(self.result)

    @property
    def changes(self) -> list[Tensor]:
        """Arguments that are written to."""
        found = []
        for place, argument in enumerate(self.function._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                value = self.arguments[place] if place < len(self.arguments) else self.keywords.get(argument.name)
                found.extend(_tensors(value))
        return found


def _tensors(values: Any) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


def _memory(tensors: Sequence[Tensor]) -> set[int]:
    return {tensor.untyped_storage()._cdata for tensor in tensors}


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[_Operation] = []
        self.negated: dict[int, Tensor] = {}  # what a tensor is the negative of
        self.shortened: list[Tensor] = []  # what would have been a copy, and is none

    def compiled(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        with _disable_current_modes():
            result = function(*arguments)
        self.operations.append(_Operation(_Compiled(function), arguments, {}, result))
        return result

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if any(tag in func.tags for tag in READS) and not _plain_indexing(func, args):
            raise ValueError(f"{func.name()} looks at values, which a recorded step cannot follow")
        if func is aten.relu.default:  # the same, and it can write into a given tensor
            func, args = aten.clamp_min.default, (args[0], 0)
        same = self._same(func, args)
        if same is not None:
            func, args = aten.alias.default, (same,)
            self.shortened.append(same)
        result = func(*args, **kwargs)
        if func is aten.neg.default:
            self.negated[id(result)] = args[0]
        self.operations.append(_Operation(func, tuple(args), kwargs, result))
        return result

    def _same(self, func: Any, args: Any) -> Tensor | None:
        """The tensor that the result would be a copy of: what vmap makes of a bias, and autograd of a negative."""
        if func is aten.mul.Scalar and args[1] == 1 and isinstance(args[0], Tensor) and args[0].is_floating_point():
            return args[0]
        return self.negated.get(id(args[0])) if func is aten.neg.default else None


def _plain_indexing(func: Any, args: Any) -> bool:
    """Indexing by numbers gives a shape that is known; by a mask it does not."""
    return func is aten.index.Tensor and all(index.dtype not in (torch.bool, torch.uint8) for index in _tensors(args[1]))


class Recording:
    """``function(*inputs)``, to be repeated whenever the inputs were filled with other values.

    The outputs are tensors that each repetition writes to.
    """

    def __init__(self, function: Callable[[], Sequence[Tensor]], inputs: Sequence[Tensor]):
        recorder = _Recorder()
        dispatch.watchers.append(recorder.compiled)
        try:
            with recorder:
                outputs = function()
        finally:
            dispatch.watchers.pop()
        kept = _needed(_varying(recorder, inputs), outputs)
        held: dict[int, Tensor] = {}

        def plain(tensor: Tensor) -> Tensor:  # without the autograd graph that hangs on it
            return held.setdefault(id(tensor), tensor.detach())

        with torch.no_grad():
            self.outputs = [plain(output) for output in outputs]
            self._calls = [_call(tree_map_only(Tensor, plain, operation)) for operation in map(_as_tuple, kept)]

    def repeat(self) -> None:
        for function, arguments, keywords in self._calls:
            function(*arguments, **keywords)


def _as_tuple(operation: _Operation) -> tuple[Any, ...]:
    return operation.function, operation.arguments, operation.keywords, operation.result


def _varying(recorder: _Recorder, inputs: Sequence[Tensor]) -> list[_Operation]:
    """The operations whose results differ from one repetition to the next."""
    operations = recorder.operations
    changed = _memory([tensor for operation in operations for tensor in operation.changes])
    made: set[int] = set()
    varying, kept = _memory(inputs), []
    for operation in operations:
        reads, makes = _memory(operation.reads), _memory(operation.makes)
        if operation.function._schema.is_mutable:
            kept.append(operation)
            varying |= _memory(operation.changes)
            continue
        if makes <= reads:  # only another look at the same memory
            continue
        made |= makes
        random = torch.Tag.nondeterministic_seeded in operation.function.tags
        follows = bool(reads & varying) and operation.function.overloadpacket not in SHAPE_ONLY
        if random or follows or makes & changed:
            kept.append(operation)
            varying |= makes
    if changed - made:
        raise ValueError(KEEPS_STATISTICS)
    if changed & _memory(recorder.shortened):
        raise ValueError("a step changes a tensor in place, of which a recorded step would have no copy")
    return kept


def _needed(operations: Sequence[_Operation], outputs: Sequence[Tensor]) -> list[_Operation]:
    wanted, kept = _memory(outputs), []
    for operation in reversed(operations):
        if wanted & (_memory(operation.makes) | _memory(operation.changes)):
            kept.append(operation)
            wanted |= _memory(operation.reads)
    return kept[::-1]


_Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


def _call(operation: tuple[Any, ...]) -> _Call:
    """The quickest way to do it again with the same tensors."""
    function, arguments, keywords, result = operation
    if function._schema.is_mutable:
        return function, arguments, keywords
    into = None if isinstance(function, _Compiled) else _variant_with_out(function)
    targets = _tensors(result)
    if into is None or len(targets) != len(function._schema.returns):

        def copied(*again: Any, **named: Any) -> None:
            for target, fresh in zip(targets, _tensors(function(*again, **named)), strict=True):
                target.copy_(fresh)

        return copied, arguments, keywords
    names = [argument.name for argument in into._schema.arguments if argument.is_out]
    named = {**keywords, **dict(zip(names, targets, strict=True))}
    quick = getattr(torch, function._schema.name.removeprefix("aten::"), None)  # parses its arguments in less than half the time
    if quick is not None and names == ["out"]:
        try:
            quick(*arguments, **named)
        except (TypeError, RuntimeError):
            pass  # is called in another way
        else:
            return quick, arguments, named
    return into._op, arguments, named


def _variant_with_out(function: Any) -> Any | None:
    """The overload that writes its results into given tensors, if there is one with the same arguments."""
    wanted = [(argument.name, str(argument.type)) for argument in function._schema.arguments]
    packet = function.overloadpacket
    for name in packet.overloads():
        overload = getattr(packet, name)
        arguments = overload._schema.arguments
        if any(a.is_out for a in arguments) and [(a.name, str(a.type)) for a in arguments if not a.is_out] == wanted:
            return overload
    return None
