"""Losses of pairs whose memory does not grow with the square of the batch.

A loss of pairs is, for each anchor, a few numbers made of its row of similarities with all items; a small formula of these numbers
follows. So a loss writes its row function on plain tensors, with the pairs of a block of anchors at once:

.. code-block:: python

    def row(s: Tensor, pairs: Pairs) -> tuple[Tensor, ...]:      # s (B, M): anchors of a block by all items
        positive = s.masked_fill(~pairs.positive, 0.0).sum(1)     # each number is (B,)
        return positive, pairs.positive.sum(1)

    x = unit(widen(embedding))                                    # s is then the cosine
    (mean, count) = over_rows(row, x, labels=labels)              # each (N,), differentiable
    (total, count) = sum_over_rows(row, x, labels=labels)         # the sums over the anchors; cheaper

``over_rows`` gives the numbers of each anchor, and computes the similarities again when it is differentiated. ``sum_over_rows``
adds them up, and only the first sum has a gradient, which is computed while the similarities are at hand: a third less arithmetic.
Use it where the loss is a sum or a mean over anchors, and ``over_rows`` for everything else.

Both work on blocks of anchors, so that beside the embeddings and their gradient nothing is larger than a block, and value and
gradient are those of the whole matrix. Small batches, ``torch.compile`` and second derivatives take the whole matrix.

Paired losses give ``items`` (M, D) beside the anchors (N, D). What belongs to anchor i is item ``own[i]``: itself where a batch is
compared with itself, its partner in a paired loss; by default ``own[i] = i``. ``pairs.at_own(s)`` are the similarities with it.
A loss of distances says ``squares=True``: s are then squared Euclidean distances, which for close pairs come from differences,
and :func:`distances` takes their roots.

Numbers that each anchor or item has beside its embedding and label (weights, temperatures, indices) go in as ``anchor_sides``
and ``item_sides``, and come back as ``pairs.anchor_sides`` (B,) and ``pairs.item_sides`` (M,); they have no gradient. Learned
scalars go in as ``parameters``, follow the pairs in the call of the row function, and have one: ``row(s, pairs, scale, bias)``.

What a row function has to keep to: it treats every anchor alone; it works out of place on ``s``; a row without a valid pair gives a
finite number and gradient (``log_sum_exp`` and ``torch.where`` before, not after, what may be infinite).

What a row function does with masks takes longer than the products of the embeddings. A loss of labels that many use can bring
the same numbers, and their derivative, as a loop that Numba compiles: a :class:`Kernel`. Large float32 batches on a processor take
it, with the items in the order of their labels, so that the positives of an anchor lie side by side and nobody needs a mask.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lossary._core.checks import check_undivided
from lossary._core.objective import without_autocast
from lossary._fast import dispatch
from lossary._fast.pairs.distances import blocks_of_squares, distances, squared_distances
from lossary._fast.pairs.row import Kernel, Pairs, Row, log_sum_exp
from lossary.distributed import Group, all_items, process_group

__all__ = [
    "Kernel",
    "Pairs",
    "Row",
    "against_all",
    "distances",
    "log_sum_exp",
    "over_rows",
    "similarities",
    "squares_in_blocks",
    "sum_over_rows",
    "unit",
]

SMALL = 1 << 16  # pairs up to which the whole matrix takes less time than a compiled loop; without one, eight times as many
BLOCK = 1 << 19  # pairs of a block: 2 MiB, so that what is done to them finds them in a cache
FEWEST_ANCHORS = 32  # of a block, below which a matrix product is no faster than reading all items


def against_all(
    owner: str, anchors: Tensor, items: Tensor | None = None, labels: Tensor | None = None, group: Group = None
) -> dict[str, Any]:
    """What :func:`over_rows` takes where this process's anchors meet the items of all processes.

    ``items`` and ``labels`` are this process's, as many as there are anchors; the items are the anchors if left out.
    """
    check_undivided(owner, anchors)
    given: dict[str, Any] = {"anchors": anchors, "labels": labels, **({} if items is None else {"items": items})}
    if process_group(owner, group) is not None:
        everybody, start, _ = all_items(owner, anchors if items is None else items, group)
        given |= {"items": everybody, "own": torch.arange(anchors.shape[0], device=anchors.device) + start}
        given["item_labels"] = None if labels is None else all_items(owner, labels, group).items
    return given


def unit(x: Tensor) -> Tensor:
    """Each row over its length. A row of zeros stays, with a gradient that is finite."""
    if not dispatch.untransformed(x) or x.numel() <= SMALL:
        return x / _length(x)
    found: Tensor = _Unit.apply(x)  # type: ignore[no-untyped-call]
    return found


def _length(x: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return torch.where(length > 1e-12, length, torch.ones_like(length))


class _Unit(torch.autograd.Function):
    """The same with one temporary as large as the rows instead of several."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x / _length(x)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        if torch.is_grad_enabled():  # somebody wants to differentiate the gradient
            pulled: tuple[Tensor] = torch.func.vjp(lambda x: x / _length(x), x)[1](upstream)
            return pulled[0]
        inverse = _length(x).reciprocal_()
        along = torch.linalg.vecdot(x, upstream).unsqueeze(-1).mul_(inverse.pow(3))
        return (upstream * inverse).addcmul_(x, along, value=-1.0)


@dataclass(frozen=True)
class _Plan:
    """What is no tensor, and how the tensors that have no gradient are laid out."""

    row: Row
    summed: bool
    wanted: tuple[bool, ...]  # which of anchors, items and parameters are to have a gradient
    together: bool  # whether the items are the anchors
    parameters: int
    anchor_sides: int
    squares: bool
    kernel: Kernel | None = None

    @property
    def slopes(self) -> bool:
        """Whether the sums bring their gradient with them."""
        return self.summed and any(self.wanted)

    def pairs(self, rows: slice, number_of_anchors: int, number_of_items: int, fixed: Sequence[Tensor | None]) -> Pairs:
        labels, item_labels, own, *sides = fixed
        device = next((x.device for x in fixed if x is not None), None)
        places = torch.arange(number_of_anchors, device=device)[rows]
        return Pairs(
            anchors=places,
            own=None if own is None else own[rows],
            anchor_labels=None if labels is None else labels[rows],
            item_labels=item_labels,
            anchor_sides=tuple(side[rows] for side in sides[: self.anchor_sides] if side is not None),
            item_sides=tuple(side for side in sides[self.anchor_sides :] if side is not None),
            shape=(places.shape[0], number_of_items),
        )

    def split(self, tensors: Sequence[Any]) -> tuple[Sequence[Tensor], Sequence[Tensor | None]]:
        """Parameters, and what has no gradient."""
        return tensors[: self.parameters], tensors[self.parameters :]


def over_rows(
    row: Row,
    anchors: Tensor,
    items: Tensor | None = None,
    *,
    labels: Tensor | None = None,
    item_labels: Tensor | None = None,
    own: Tensor | None = None,
    anchor_sides: Sequence[Tensor] = (),
    item_sides: Sequence[Tensor] = (),
    parameters: Sequence[Tensor] = (),
    squares: bool = False,
    kernel: Kernel | None = None,
) -> tuple[Tensor, ...]:
    """The numbers (N,) that the row function makes of each anchor's similarities.

    Args:
        row: called as ``row(s, pairs, *parameters)``; returns numbers (B,) for the anchors of a block.
        anchors: (N, D).
        items: (M, D); the anchors themselves if left out.
        labels, item_labels: (N,) and (M,) integers; the items have those of the anchors if left out.
        own: (N,) the item that belongs to each anchor; the one at its own place if left out and there are as many.
        anchor_sides, item_sides: tensors (N, ...) and (M, ...) that the row function finds in the pairs.
        parameters: tensors with a gradient, which the row function takes after the pairs.
        squares: whether the row function takes squared distances, in the place of products.
        kernel: the same numbers from labels alone, as a compiled loop.
    """
    return _apply(False, row, anchors, items, labels, item_labels, own, anchor_sides, item_sides, parameters, squares, kernel)


def sum_over_rows(
    row: Row,
    anchors: Tensor,
    items: Tensor | None = None,
    *,
    labels: Tensor | None = None,
    item_labels: Tensor | None = None,
    own: Tensor | None = None,
    anchor_sides: Sequence[Tensor] = (),
    item_sides: Sequence[Tensor] = (),
    parameters: Sequence[Tensor] = (),
    squares: bool = False,
    kernel: Kernel | None = None,
) -> tuple[Tensor, ...]:
    """The sums over the anchors of the numbers that :func:`over_rows` gives; the first has a gradient, the others have none."""
    return _apply(True, row, anchors, items, labels, item_labels, own, anchor_sides, item_sides, parameters, squares, kernel)


def _apply(
    summed: bool,
    row: Row,
    anchors: Tensor,
    items: Tensor | None,
    labels: Tensor | None,
    item_labels: Tensor | None,
    own: Tensor | None,
    anchor_sides: Sequence[Tensor],
    item_sides: Sequence[Tensor],
    parameters: Sequence[Tensor],
    squares: bool,
    kernel: Kernel | None,
) -> tuple[Tensor, ...]:
    together, others = items is None, anchors if items is None else items
    # Only where it makes a difference: while a program is traced, a comparison of sizes binds it to one side.
    if (own is None or (labels is not None and item_labels is None)) and (together or others.shape[0] == anchors.shape[0]):
        item_labels = labels if item_labels is None else item_labels
        own = torch.arange(anchors.shape[0], device=anchors.device) if own is None else own
    differentiable = (anchors, *parameters) if items is None else (anchors, items, *parameters)
    wanted = tuple(torch.is_grad_enabled() and dispatch.has_gradient(x) for x in differentiable)
    plan = _Plan(row, summed, wanted, together, len(parameters), len(anchor_sides), squares, kernel)
    fixed = (labels, item_labels, own, *anchor_sides, *item_sides)
    with without_autocast(anchors):
        few = SMALL if kernel is not None else 8 * SMALL
        if dispatch.whole_only(*differentiable, *fixed) or anchors.shape[0] * others.shape[0] <= few:
            return _whole(plan, anchors, items, *parameters, *fixed)
        found = _InBlocks.apply(plan, anchors, items, *parameters, *fixed)  # type: ignore[no-untyped-call]
    return tuple(found[: len(found) - len(differentiable)] if plan.slopes else found)


def _whole(plan: _Plan, anchors: Tensor, items: Tensor | None, *tensors: Tensor | None) -> tuple[Tensor, ...]:
    """The numbers, or their sums, with plain operations on the whole matrix."""
    items = anchors if items is None else items
    parameters, fixed = plan.split(tensors)
    if items.shape[0] == 0:  # one item that nobody meets, since nothing is the largest of none
        of_anchors = {0, 2, *range(3, 3 + plan.anchor_sides)}
        items = torch.cat([items, items.new_zeros(1, items.shape[1])])  # still a function of the items, who get their gradient
        fixed = [x if x is None or n in of_anchors else x.new_zeros(1, *x.shape[1:]) for n, x in enumerate(fixed)]
    pairs = plan.pairs(slice(None), anchors.shape[0], items.shape[0], fixed)
    s = squared_distances(anchors, items) if plan.squares else anchors @ items.T
    numbers = plan.row(s, pairs, *parameters)
    if not plan.summed:
        return tuple(numbers)
    return tuple(number.sum() if place == 0 else number.detach().sum() for place, number in enumerate(numbers))


def similarities(anchors: Tensor, items: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """The anchors of each block and their similarities with all items, in room that the next block takes again.

    Nothing small is to be allocated and kept between two blocks: it would lie between their temporaries, and keep the system's
    allocator from joining them into the room for the next.
    """
    step = _anchors_of_block(anchors, items)
    transposed = items.detach().T.contiguous()  # which the product reads faster
    room = anchors.new_empty(step, items.shape[0])
    for start in range(0, anchors.shape[0], step):
        block = anchors.detach()[start : start + step]
        yield slice(start, start + step), torch.mm(block, transposed, out=room[: block.shape[0]])


def squares_in_blocks(anchors: Tensor, items: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """As :func:`similarities`, the squared distances."""
    return blocks_of_squares(anchors, items, _anchors_of_block(anchors, items))


def _anchors_of_block(anchors: Tensor, items: Tensor) -> int:
    size = BLOCK if anchors.device.type == "cpu" else dispatch.ACCELERATOR_BLOCK
    return min(anchors.shape[0], max(FEWEST_ANCHORS, size // items.shape[0]))


class _Slopes:
    """The gradient by embeddings and parameters, gathered block by block; of what nobody wants it is left empty."""

    def __init__(self, plan: _Plan, anchors: Tensor, items: Tensor, parameters: Sequence[Tensor]):
        self.plan, self.items = plan, items
        tensors = (anchors, *parameters) if plan.together else (anchors, items, *parameters)
        self.found = [torch.zeros_like(x) if wanted else x.new_empty(0) for x, wanted in zip(tensors, plan.wanted, strict=True)]

    def add(self, rows: slice, block: Tensor, by_s: Tensor | None, by_parameters: Sequence[Tensor | None]) -> None:
        together, wanted = self.plan.together, self.plan.wanted
        if by_s is not None and together and wanted[0] and by_s.shape[0] == by_s.shape[1]:  # one block: one product for both sides
            both = by_s.T.clone(memory_format=torch.contiguous_format).add_(by_s)
            add_pull(self.found[0], both, block, self.items, self.plan.squares)
        elif by_s is not None:
            if wanted[0]:
                add_pull(self.found[0][rows], by_s, block, self.items, self.plan.squares)
            if wanted[not together]:
                add_pull(self.found[not together], by_s.T, self.items, block, self.plan.squares)
        for place, part in enumerate(by_parameters, 1 if together else 2):
            if part is not None and wanted[place]:
                self.found[place].add_(part)

    def reorder_items(self, order: Tensor) -> None:
        """The gradient by the items, gathered in this order, in their own one."""
        place = not self.plan.together
        if self.plan.wanted[place]:
            self.found[place] = torch.empty_like(self.found[place]).index_copy_(0, order, self.found[place])


def add_pull(found: Tensor, by_s: Tensor, own: Tensor, others: Tensor, squares: bool) -> None:
    """Adds to ``found`` (B, D) the gradient by its rows ``own`` (B, D), from that by their products or squared distances (B, M)."""
    found.addmm_(by_s, others, alpha=-2 if squares else 1)
    if squares:
        found.addcmul_(own, by_s.sum(1, keepdim=True), value=2)


class _InBlocks(torch.autograd.Function):
    """The same on blocks of anchors. Sums bring their gradient with them; numbers of anchors are computed again for it."""

    @staticmethod
    def forward(plan: _Plan, anchors: Tensor, items: Tensor | None, *tensors: Tensor | None) -> tuple[Tensor, ...]:
        others = anchors if items is None else items

        def swept(anchors: Tensor, others: Tensor, *tensors: Tensor | None) -> tuple[Tensor, ...]:
            parameters, fixed = plan.split(tensors)
            slopes = _Slopes(plan, anchors, others, parameters) if plan.slopes else None
            found = _sweep(plan, anchors, others, parameters, fixed, slopes, None)
            return (*found, *(() if slopes is None else slopes.found))

        done: tuple[Tensor, ...] = dispatch.call_compiled(swept, anchors, others, *tensors)
        return done

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        plan, anchors, items, *tensors = inputs
        ctx.plan, ctx.tensors = plan, len(tensors)
        ctx.set_materialize_grads(False)
        if plan.summed:
            ctx.mark_non_differentiable(*output[1:])
        slopes = output[len(output) - len(plan.wanted) :] if plan.slopes else ()
        ctx.save_for_backward(anchors, items, *tensors, *slopes)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, ...]:
        plan: _Plan = ctx.plan
        pulled: tuple[Tensor | None, ...]
        anchors, items, *rest = ctx.saved_tensors
        tensors, found = rest[: ctx.tensors], rest[ctx.tensors :]
        parameters, fixed = plan.split(tensors)
        nothing = (None,) * len(fixed)
        if all(each is None for each in upstream):
            return (None,) * (3 + len(tensors))
        if torch.is_grad_enabled():  # somebody wants to differentiate the gradient
            pulled = _pulled_through_the_whole(plan, anchors, items, parameters, fixed, upstream)
        elif plan.summed:
            pulled = tuple(slope * upstream[0] if wanted else None for slope, wanted in zip(found, plan.wanted, strict=True))
        else:
            others = anchors if items is None else items

            def swept(
                anchors: Tensor, others: Tensor, upstream: tuple[Tensor | None, ...], *tensors: Tensor | None
            ) -> list[Tensor]:
                parameters, fixed = plan.split(tensors)
                slopes = _Slopes(plan, anchors, others, parameters)
                _sweep(plan, anchors, others, parameters, fixed, slopes, upstream)
                return slopes.found

            slopes = dispatch.call_compiled(swept, anchors, others, upstream, *tensors)
            pulled = tuple(slope if wanted else None for slope, wanted in zip(slopes, plan.wanted, strict=True))
        by_items = (None,) if plan.together else ()
        return (None, pulled[0], *by_items, *pulled[1:], *nothing)

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[Any, ...],
        plan: _Plan,
        anchors: Tensor,
        items: Tensor | None,
        *tensors: Tensor | None,
    ) -> Any:
        inputs = list(zip((anchors, items, *tensors), in_dims[1:], strict=True))
        each = []
        for place in range(info.batch_size):
            own = (x if x is None or dim is None else x.select(dim, place) for x, dim in inputs)
            each.append(_InBlocks.apply(plan, *own))  # type: ignore[no-untyped-call]
        return tuple(torch.stack(parts) for parts in zip(*each, strict=True)), (0,) * len(each[0])


def _sweep(
    plan: _Plan,
    anchors: Tensor,
    items: Tensor,
    parameters: Sequence[Tensor],
    fixed: Sequence[Tensor | None],
    slopes: _Slopes | None,
    upstream: Sequence[Tensor | None] | None,
) -> tuple[Tensor, ...]:
    """The numbers of all anchors, or their sums; what flows back from them, or from the first alone, is added to the slopes."""
    if plan.kernel is not None and anchors.is_cpu and anchors.dtype == items.dtype == torch.float32 and dispatch.loops_available():
        return _sweep_of_kernel(plan, plan.kernel, anchors, items, fixed, slopes, upstream)
    found: tuple[Tensor, ...] = ()
    for rows, s in (squares_in_blocks if plan.squares else similarities)(anchors, items):
        pairs = plan.pairs(rows, anchors.shape[0], items.shape[0], fixed)
        if slopes is None:
            numbers = plan.row(s, pairs, *parameters)
        else:
            flowing = None if upstream is None else [each if each is None else each[rows] for each in upstream]
            numbers = _with_slopes(plan, slopes, rows, anchors[rows], s, pairs, parameters, flowing)
        if not found:
            found = tuple(x.new_zeros(() if plan.summed else anchors.shape[:1]) for x in numbers)
        for total, number in zip(found, numbers, strict=True):
            if plan.summed:
                total.add_(number.detach().sum())
            else:
                total[rows] = number.detach()
    return found


def _sweep_of_kernel(
    plan: _Plan,
    kernel: Kernel,
    anchors: Tensor,
    items: Tensor,
    fixed: Sequence[Tensor | None],
    slopes: _Slopes | None,
    upstream: Sequence[Tensor | None] | None,
) -> tuple[Tensor, ...]:
    loop = kernel.load()
    labels, item_labels, own = fixed[:3]
    n, m = anchors.shape[0], items.shape[0]
    if labels is None or item_labels is None:
        order = torch.arange(m)
        own = torch.full((n,), -1) if own is None else own
        first, last = own, own + (own >= 0)
    else:
        ascending, order = item_labels.long().sort(stable=True)
        first, last = (torch.searchsorted(ascending, labels.long(), right=right) for right in (False, True))
        own = torch.full((n,), -1) if own is None else torch.empty_like(order).index_put_((order,), torch.arange(m))[own]
    ordered = items[order]
    if plan.together:
        anchors, first, last, own = ordered, first[order], last[order], own[order]
    ones = torch.zeros(n, kernel.numbers)
    ones[:, 0] = 1.0
    flowing = ones if upstream is None else torch.stack([anchors.new_zeros(n) if x is None else x.expand(n) for x in upstream], 1)
    if slopes is None:
        flowing = flowing[:0]
    else:
        flowing = flowing[order] if plan.together else flowing.contiguous()
        slopes.items = ordered
    numbers = anchors.new_empty(n, kernel.numbers)
    for rows, s in (squares_in_blocks if plan.squares else similarities)(anchors, ordered):
        where = (x[rows].numpy() for x in (first, last, own, flowing, numbers))
        loop(s.numpy(), *where, *kernel.constants)
        if slopes is not None:
            slopes.add(rows, anchors[rows], s, ())
    if slopes is not None:
        slopes.reorder_items(order)
    if plan.summed:
        return tuple(numbers.sum(0).unbind())
    if plan.together:
        numbers = torch.empty_like(numbers).index_copy_(0, order, numbers)
    return tuple(numbers.T.contiguous().unbind())


def _pulled_through_the_whole(
    plan: _Plan,
    anchors: Tensor,
    items: Tensor | None,
    parameters: Sequence[Tensor],
    fixed: Sequence[Tensor | None],
    upstream: Sequence[Tensor | None],
) -> tuple[Tensor, ...]:
    def whole(*by: Tensor) -> tuple[Tensor, ...]:
        others, learned = (None, by[1:]) if items is None else (by[1], by[2:])
        numbers = _whole(plan, by[0], others, *learned, *fixed)
        return tuple(number for number, each in zip(numbers, upstream, strict=False) if each is not None)

    by = (anchors, *parameters) if items is None else (anchors, items, *parameters)
    pulled: tuple[Tensor, ...] = torch.func.vjp(whole, *by)[1](tuple(each for each in upstream if each is not None))
    return pulled


def _with_slopes(
    plan: _Plan,
    slopes: _Slopes,
    rows: slice,
    block: Tensor,
    s: Tensor,
    pairs: Pairs,
    parameters: Sequence[Tensor],
    upstream: Sequence[Tensor | None] | None,
) -> tuple[Tensor, ...]:
    """The numbers of a block; adds to the slopes what flows back from them, or from the first of them alone."""
    with torch.enable_grad():
        leaves = [s.detach().requires_grad_(), *(parameter.detach().requires_grad_() for parameter in parameters)]
        numbers = plan.row(leaves[0], pairs, *leaves[1:])
    chosen = [(numbers[0], torch.ones_like(numbers[0]))] if upstream is None else list(zip(numbers, upstream, strict=True))
    flowing = [(number, each) for number, each in chosen if each is not None and number.requires_grad]
    if flowing:
        found = torch.autograd.grad([one for one, _ in flowing], leaves, [each for _, each in flowing], allow_unused=True)
        slopes.add(rows, block, found[0], found[1:])
    return tuple(numbers)
