"""The values that an objective's inputs may have, by family: a debug context, and sentences for failures.

A loss looks at shapes and dtypes alone, as reading a value makes an accelerator wait for every batch. Values are read in two cases:
while :class:`check_values` is on, and after PyTorch itself has failed on a class that does not exist.
"""

import inspect
import threading
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar, Token
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from lossary.errors import InvalidIndexError, InvalidValueError

IGNORED = -100  # the class that losses without a parameter for it leave out, where they leave out any
MAY_BE_MASKED = ("logits", "adversarial_logits", "scores", "ranker_scores", "student", "teacher", "auxiliary", "log_prob")
FACTORS = ("weight", "class_weight", "pos_weight", "class_counts")
PROBABILITIES = ("likelihood", "class_frequency")


class Kind(NamedTuple):
    """The family of an objective, and whether each of its classes is a yes or no of its own, with C for none of them."""

    family: str
    one_against_rest: bool


families: dict[str, Kind] = {}  # by the name of the objective's function; the registry fills it
_on: ContextVar[bool] = ContextVar("lossary_check_values", default=False)
_lock = threading.Lock()
contexts = 0  # how many are open in all threads: a number costs a call less than a context variable


class check_values:  # noqa: N801
    """Debug context in which every objective looks at the values of its inputs before it computes anything.

    It refuses classes that do not exist, targets outside their family's range, probabilities that do not sum to 1, NaN in outputs,
    embeddings and targets that count, masks that hide everything, and bags and memories that do not exist. The error is one
    sentence with the objective, the argument, and the first position and value that are wrong. It holds for modules and
    functions, in this thread and the tasks that it starts, but not for what ``torch.compile`` has traced. An accelerator waits for
    every look, so leave the context when done.

    >>> import lossary
    >>> loss, logits = lossary.create("binary_cross_entropy"), torch.zeros(2, 2)
    >>> with lossary.check_values():
    ...     loss(logits, torch.tensor([[0.0, 1.0], [5.0, 0.0]]))
    Traceback (most recent call last):
    lossary.errors.InvalidValueError: binary_cross_entropy: target must be in [0, 1] or ignore_index=-100, got 5 at (1, 0)
    """

    def __init__(self) -> None:
        self._tokens: list[Token[bool]] = []

    def __enter__(self) -> Self:
        global contexts
        with _lock:
            contexts += 1
        self._tokens.append(_on.set(True))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        global contexts
        _on.reset(self._tokens.pop())
        with _lock:
            contexts -= 1


def call_checked(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """``function(*args, **kwargs)`` after a look at the values, if this thread wants one; what it calls is not looked at again."""
    if torch.compiler.is_compiling() or not _on.get():
        return function(*args, **kwargs)
    token = _on.set(False)
    try:
        given = _given(function, args, kwargs)
        if given is not None:
            for fault in _faults(given):
                raise fault.error(given.owner)
        return function(*args, **kwargs)
    finally:
        _on.reset(token)


def failure_of(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> InvalidIndexError | None:
    """The sentence for a call in which PyTorch failed, if it names a class, a bag or a place of a memory that does not exist.

    On an accelerator the device itself stops the program, with a message of its own; a look at values would only hang there.
    """
    given = _given(function, args, kwargs)
    if given is None or not all(_readable(x) for x in given.arguments.values() if isinstance(x, Tensor)):
        return None
    for fault in (_no_such_class(given), _no_such_class(given, lenient=False), _no_such_bag(given), _no_such_place(given)):
        if fault is not None:
            return InvalidIndexError(fault.text(given.owner))
    return None


def _readable(x: Tensor) -> bool:
    return x.device.type == "cpu" and not torch._C._functorch.is_functorch_wrapped_tensor(x)


class Fault(NamedTuple):
    """What is wrong with an argument, where, and which value stands there."""

    argument: str
    allowed: str
    value: str
    at: tuple[int, ...] | None = None
    of_index: bool = False

    def text(self, owner: str) -> str:
        at = "" if self.at is None else f" at ({', '.join(map(str, self.at))}{',' if len(self.at) == 1 else ''})"
        return f"{owner}: {self.argument} must be {self.allowed}, got {self.value}{at}"

    def error(self, owner: str) -> InvalidValueError:
        return (InvalidIndexError if self.of_index else InvalidValueError)(self.text(owner))


@dataclass(frozen=True)
class Given:
    """The arguments of one call, by name and with their defaults."""

    owner: str
    family: str
    one_against_rest: bool
    arguments: Mapping[str, Any]

    def tensor(self, name: str) -> Tensor | None:
        value = self.arguments.get(name)
        return value if isinstance(value, Tensor) and value.numel() else None

    @property
    def ignore_index(self) -> int | None:
        value = self.arguments.get("ignore_index")
        return value if isinstance(value, int) else None

    @property
    def class_target(self) -> Tensor | None:
        """Class indices, where the target is such."""
        target = self.tensor("target")
        by_class = self.family in ("classification", "distillation", "sets")
        return target if by_class and target is not None and not target.is_floating_point() else None

    @property
    def class_dimension(self) -> int:
        """The dimension of the output over which its classes lie."""
        return -1 if self.family == "sets" or self.arguments.get("level") == "sequence" else 1

    @property
    def num_classes(self) -> int | None:
        for name in ("logits", "student"):
            output = self.tensor(name)
            if output is not None and output.ndim > 1 and "class_means" not in self.arguments:
                return output.shape[self.class_dimension]
        for name in ("weight", "means", "class_means"):
            rows = self.tensor(name)
            if rows is not None and rows.ndim == 2:
                return rows.shape[0]
        return None

    def ignored(self, lenient: bool = True) -> Tensor | None:
        """Mask of the targets that do not count, of their shape. A loss without ``ignore_index`` may leave -100 out."""
        target = self.tensor("target")
        if target is None or self.family not in ("classification", "distillation", "sets", "multilabel"):
            return None
        if self.ignore_index is not None:
            hard = not target.is_floating_point() or self.family == "multilabel"
            return _equal(target, self.ignore_index) if hard else None
        return _equal(target, IGNORED) if lenient and not target.is_floating_point() else None

    def counts(self, name: str, x: Tensor) -> Tensor | None:
        """Mask of the elements of an argument that count, which broadcasts to it; None if all do."""
        for mask_name in ("mask", f"{name}_mask"):
            mask = self.tensor(mask_name)
            if mask is not None and mask.dtype == torch.bool and mask.shape == x.shape[: mask.ndim]:
                return mask.reshape(*mask.shape, *[1] * (x.ndim - mask.ndim))
        relevance = self.tensor("relevance")
        if relevance is not None and relevance.dtype.is_signed and relevance.shape == x.shape:
            return ~(relevance < 0)  # padding, where there is no mask
        ignored = self.ignored()
        if ignored is None or name not in (
            "target",
            "logits",
            "adversarial_logits",
            "embedding",
            "student",
            "teacher",
            "auxiliary",
        ):
            return None
        if ignored.shape == x.shape:
            return ~ignored
        by_class = ignored.unsqueeze(self.class_dimension)
        samples = tuple(n for axis, n in enumerate(x.shape) if axis != self.class_dimension % x.ndim)
        return ~by_class if samples == tuple(ignored.shape) and self.family != "sets" else None


def _given(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Given | None:
    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
    except TypeError:
        return None  # Python says what is missing
    bound.apply_defaults()
    return Given(function.__name__, *families.get(function.__name__, Kind("", False)), bound.arguments)


def _equal(target: Tensor, label: int) -> Tensor:
    return (target if target.is_floating_point() else target.long()) == label


def _first(argument: str, allowed: str, x: Tensor, bad: Tensor, *, of_index: bool = False) -> Fault | None:
    """The first element of x at which ``bad``, of the same shape, is True."""
    if not bool(bad.any()):
        return None
    at = tuple(int(place) for place in bad.nonzero()[0])
    return Fault(argument, allowed, f"{x[at].item():g}" if x.is_floating_point() else f"{x[at].item()}", at, of_index)


def _faults(given: Given) -> Iterator[Fault]:
    """What is wrong, the most telling first."""
    found: list[Fault | None] = [_no_such_class(given), _no_such_bag(given), _no_such_place(given), *_hidden(given)]
    found += [_outside(given, name) for name in ("target", "relevance", *PROBABILITIES, *FACTORS)]
    found += [_not_finite(given, name) for name in given.arguments]
    yield from (fault for fault in found if fault is not None)


def _no_such_class(given: Given, *, lenient: bool = True) -> Fault | None:
    target, classes = given.class_target, given.num_classes
    if target is None or classes is None:
        return None
    last = classes if given.one_against_rest else classes - 1
    index = target.long()
    bad = (index < 0) | (index > last)
    ignored = given.ignored(lenient)
    if ignored is not None:
        bad &= ~ignored
    allowed = f"class indices from 0 to {last}"
    if given.ignore_index is not None:
        allowed += f" or ignore_index={given.ignore_index}"
    if classes == 1 and not given.one_against_rest and "logits" in given.arguments:  # PyTorch's binary convention: one channel
        allowed += " (one channel for yes or no becomes two classes by torch.cat([torch.zeros_like(logits), logits], 1))"
    return _first("target", allowed, target, bad, of_index=True)


def _no_such_bag(given: Given) -> Fault | None:
    bag, target = given.tensor("bag"), given.arguments.get("target")
    if bag is None or bag.is_floating_point() or not isinstance(target, Tensor):
        return None
    return _of_places("bag", bag, "bags", target.shape[0])


def _no_such_place(given: Given) -> Fault | None:
    index = given.tensor("index")
    if index is None or index.is_floating_point():
        return None
    names = list(given.arguments)
    memory = next((given.tensor(name) for name in names[names.index("index") + 1 :]), None)
    return None if memory is None else _of_places("index", index, "positions in the data set", memory.shape[0])


def check_indices(owner: str, argument: str, x: Tensor, what: str, count: int) -> None:
    """Refuse integers that are no positions among so many. It reads values, which passes over data may, but no step of training."""
    fault = _of_places(argument, x, what, count) if x.numel() else None
    if fault is not None:
        raise fault.error(owner)


def _of_places(name: str, x: Tensor, what: str, count: int) -> Fault | None:
    index = x.long()
    return _first(name, f"{what} from 0 to {count - 1}", x, (index < 0) | (index >= count), of_index=True)


def _hidden(given: Given) -> Iterator[Fault]:
    for name, mask in given.arguments.items():
        if (name == "mask" or name.endswith("_mask")) and isinstance(mask, Tensor) and mask.numel() and not bool(mask.any()):
            yield Fault(name, "True for something", "False everywhere")


def _outside(given: Given, name: str) -> Fault | None:
    """What is not in the range of its argument."""
    x = given.tensor(name)
    if x is None or x.dtype == torch.bool:
        return None
    counts = given.counts(name, x)
    if name == "target":
        return _target(given, x, counts)
    wide = x.double()
    if name in PROBABILITIES:
        return _first(name, "in [0, 1]", x, ~((wide >= 0) & (wide <= 1)))
    if name == "relevance":
        return _first(name, "finite", x, ~wide.isfinite() if counts is None else ~wide.isfinite() & counts)
    bad = ~((wide >= 0) & (wide < torch.inf))
    if name == "weight" and given.tensor("embedding") is not None:
        return None  # directions or centres of the classes
    return _first(name, "finite numbers >= 0", x, bad)


def _target(given: Given, x: Tensor, counts: Tensor | None) -> Fault | None:
    if given.family not in ("classification", "multilabel", "label_ranking") or given.class_target is not None:
        return None
    wide = x.double()
    bad = ~((wide >= 0) & (wide <= 1))
    if counts is not None:
        bad &= counts
    allowed = (
        "in [0, 1]"
        if given.ignore_index is None or given.family != "multilabel"
        else f"in [0, 1] or ignore_index={given.ignore_index}"
    )
    if given.family != "classification" or x.ndim < 2 or given.one_against_rest:
        return _first("target", allowed, x, bad)
    fault = _first("target", "probabilities in [0, 1]", x, bad)
    if fault is not None:
        return fault
    total = wide.sum(1)
    off = (total - 1).abs() > 4 * x.shape[1] ** 0.5 * max(torch.finfo(x.dtype).eps, 1e-6)
    found = _first("target", "probabilities that sum to 1 over dimension 1", total, off)
    return None if found is None else found._replace(value=f"a sum of {found.value}")


def _not_finite(given: Given, name: str) -> Fault | None:
    x = given.tensor(name)
    if x is None or not x.is_floating_point():
        return None
    masked = name in MAY_BE_MASKED
    bad = x.isnan() | (x == torch.inf) if masked else ~x.isfinite()
    counts = given.counts(name, x)
    if counts is not None:
        bad = bad & counts
    return _first(name, "finite, or -inf for what is masked" if masked else "finite", x, bad)
