"""One loss over several processes: every sample meets every other one, and training stays what one process would do.

A loss that compares samples with each other takes ``group``: ``None`` is this process alone, ``"world"`` all processes, and a
``torch.distributed.ProcessGroup`` its members. All of them have to call the loss, and to run backward, together.

**What comes out.** The mean over the processes of the loss, and of every gradient, is what one process would find on the whole
batch, whose rows are those of the first process, then those of the second, and so on. It is the mean because
``DistributedDataParallel`` takes the mean of what its processes found; parameters of the loss itself are averaged in the same
way if they are part of the model that it wraps. Processes may bring different numbers of samples.

**How.** Items go round in a ring: each process holds its own and those of one other process, and while it works on them the next
ones are on their way. In backward each block of items travels with its gradient, which arrives at home as the derivative of the
sum of all processes' losses. A loss that needs the whole row of an anchor at once gathers all items over the same ring.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Union

import torch
from torch import Tensor

from lossary._core.checks import check_tensor, check_undivided
from lossary.errors import InvalidTypeError, InvalidValueError

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = ["AllItems", "Group", "Ring", "all_items", "process_group", "total"]

Group = Union["ProcessGroup", Literal["world"], None]
_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.bool)


def process_group(owner: str, group: Group) -> "ProcessGroup | None":
    """The processes that a loss works with, or None where it is this one alone."""
    if group is None:
        return None
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        raise InvalidValueError(f"{owner}: group must be None until torch.distributed.init_process_group was called, got {group!r}")
    if group == "world":
        found = torch.distributed.group.WORLD
    elif isinstance(group, torch.distributed.ProcessGroup):
        found = group
    else:
        raise InvalidTypeError(f"{owner}: group must be 'world', a torch.distributed.ProcessGroup or None, got {group!r}")
    return found if torch.distributed.get_world_size(found) > 1 else None


class Ring:
    """The processes of a group in a circle, for items (n, \\*) of which every process has some.

    ``start`` and ``count`` say where this process's items stand among all ``total`` ones, and ``counts`` how many each process has.
    Without a group it is a circle of one, so that a loss is written once.
    """

    def __init__(self, owner: str, items: Tensor, group: Group = None):
        check_undivided(owner, items)
        self.group = process_group(owner, group)
        self.rank, self.size, self.counts = 0, 1, [items.shape[0]]
        if self.group is not None:
            self.rank, self.size = torch.distributed.get_rank(self.group), torch.distributed.get_world_size(self.group)
            self.counts = self._agree(owner, items)
        self.count, self.total, self.start = items.shape[0], sum(self.counts), sum(self.counts[: self.rank])
        self.starts = [sum(self.counts[:rank]) for rank in range(self.size)]

    def reduced(self, sums: Tensor, reduction: str) -> Tensor:
        """What this process's sum counts in a ``"mean"`` or ``"sum"`` of which the mean over processes is taken."""
        return sums / self.divisor if reduction == "mean" else sums * self.size

    @property
    def divisor(self) -> float:
        """What the sum over this process's samples is divided by for a mean: their number over all processes, over the processes.

        The mean over processes of such means is the mean over all samples, however they are divided.
        """
        return max(self.total, 1) / self.size

    def blocks(self, *own: Tensor) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
        """Every process's tensors in turn, with its rank; this process's come first."""
        held = tuple(x.contiguous() for x in own)
        for step in range(self.size):
            rank = (self.rank - step) % self.size
            last = step == self.size - 1
            coming = None if last else self._send_on(held, (rank - 1) % self.size)
            yield rank, held
            if coming is not None:
                held = coming.wait()

    def tour(
        self, own: Sequence[Tensor], carried: Sequence[Tensor]
    ) -> Iterator[tuple[int, tuple[Tensor, ...], tuple[Tensor, ...]]]:
        """As :meth:`blocks`, with tensors that travel along and may be changed in place, such as the gradients of the items.

        When the round is over, ``carried`` holds what all processes made of this process's.
        """
        home = tuple(carried)
        held = home
        for rank, block in self.blocks(*own):
            yield rank, block, held
            if self.size > 1:
                held = self._send_on(tuple(x.contiguous() for x in held), (rank - 1) % self.size).wait()
        for mine, came in zip(home, held, strict=True):
            if came is not mine:
                mine.copy_(came)

    def _agree(self, owner: str, items: Tensor) -> list[int]:
        """How many items each process has, once their other dimensions and dtypes are known to be the same."""
        kind = _DTYPES.index(items.dtype) if items.dtype in _DTYPES else len(_DTYPES)
        own = torch.tensor([items.shape[0], items[:1].numel() if len(items) else -1, kind], device=items.device)
        found = [torch.empty_like(own) for _ in range(self.size)]
        torch.distributed.all_gather(found, own, group=self.group)
        rows: list[list[int]] = torch.stack(found).tolist()  # read at once: an accelerator is waited for each time
        if len({width for _, width, _ in rows if width >= 0}) > 1 or len({kind for _, _, kind in rows}) > 1:
            given = ", ".join(f"{width} x {_DTYPES[kind] if kind < len(_DTYPES) else 'another dtype'}" for _, width, kind in rows)
            raise InvalidValueError(f"{owner}: all processes must give items of one width and dtype, got {given}")
        return [count for count, _, _ in rows]

    def _send_on(self, tensors: tuple[Tensor, ...], coming_from: int) -> "_Exchange":
        """Hand tensors to the next process, and take those of ``coming_from`` from the previous one."""
        return _Exchange(self, tensors, self.counts[coming_from])


class _Exchange:
    """Tensors on their way."""

    def __init__(self, ring: Ring, sent: tuple[Tensor, ...], rows: int):
        group = ring.group
        if group is None:
            raise AssertionError("there is nobody to send to")
        to = torch.distributed.get_global_rank(group, (ring.rank + 1) % ring.size)
        by = torch.distributed.get_global_rank(group, (ring.rank - 1) % ring.size)
        self.sent = sent  # kept until it has arrived
        self.received = tuple(x.new_empty(rows, *x.shape[1:]) for x in sent)
        steps = [torch.distributed.P2POp(torch.distributed.isend, x, to, group) for x in sent if x.numel()]
        steps += [torch.distributed.P2POp(torch.distributed.irecv, x, by, group) for x in self.received if x.numel()]
        self.work = torch.distributed.batch_isend_irecv(steps) if steps else []

    def wait(self) -> tuple[Tensor, ...]:
        for each in self.work:
            each.wait()
        return self.received


class AllItems(NamedTuple):
    """The items of all processes: this process's are those from ``start`` on; ``divisor`` is :attr:`Ring.divisor`."""

    items: Tensor
    start: int
    divisor: float


def all_items(owner: str, items: Tensor, group: Group = None) -> AllItems:
    """The items (n, \\*) of all processes, in the order of the processes; differentiable.

    The gradient of this process's items is that of the sum of all processes' losses. A mean over anchors, of which every process
    has its own, is their sum over ``divisor``.

    >>> gathered = all_items("mine", torch.tensor([[1.0], [2.0]]))
    >>> gathered.items.tolist(), gathered.start, gathered.divisor
    ([[1.0], [2.0]], 0, 2.0)
    """
    check_tensor(owner, "items", items)
    ring = Ring(owner, items, group)
    gathered: Tensor = items if ring.size == 1 else _Gather.apply(items, ring)  # type: ignore[no-untyped-call]
    return AllItems(gathered, ring.start, ring.divisor)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, items: Tensor, ring: Ring) -> Tensor:
        ctx.ring = ring
        out = items.new_empty(ring.total, *items.shape[1:])
        for rank, (block,) in ring.blocks(items):
            out[ring.starts[rank] : ring.starts[rank] + len(block)] = block
        if not items.is_floating_point():
            ctx.mark_non_differentiable(out)
        return out

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        ring: Ring = ctx.ring
        gradient = upstream.new_zeros(ring.count, *upstream.shape[1:])
        for rank, _, (carried,) in ring.tour((), (gradient,)):
            carried += upstream[ring.starts[rank] : ring.starts[rank] + ring.counts[rank]]
        return gradient, None


def total(owner: str, value: Tensor, group: Group = None) -> Tensor:
    """The sum of a tensor over all processes; differentiable, as :func:`all_items` is."""
    found = process_group(owner, group)
    if found is None:
        return value
    summed: Tensor = _Total.apply(value, found)  # type: ignore[no-untyped-call]
    return summed


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, group: "ProcessGroup") -> Tensor:
        ctx.group = group
        out = value.detach().clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(out, group=group)
        return out

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        out = upstream.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(out, group=ctx.group)
        return out, None
