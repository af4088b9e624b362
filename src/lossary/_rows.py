"""Losses of one class of several at the speed of memory: one read of the logits, one write of their gradient.

A loss here is a small formula l(c) of a few numbers of each row of logits: the logit and the log-probability of class c, and
sums over the row. A hard label costs l of its class; a soft or smoothed target needs l(c) of every class.

On a processor a large batch goes through one compiled loop, which makes the numbers of a row, its cost and its gradient while
the row is in the cache (:mod:`lossary._formulas` says how the formula gets into it). On accelerators, in other precisions, for
classes that are not side by side in memory and under ``vmap`` it goes through in blocks of rows. Small batches, and whatever
``torch.compile`` sees, take the same formula on plain tensor operations, which is also what second derivatives are made of.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from lossary import _blocks, _formulas, _row_arrays
from lossary._objective import average_over_kept, reduce, widen


@dataclass(frozen=True)
class Rows:
    """What a formula may ask of each row: numbers of class c, and of the row as a whole.

    Of class c: ``logits`` (its own logit), ``log_p`` and ``lower_log_p``, the largest log-probability strictly below that of c
    (-inf if there is none), and ``is_top``, 1 if c is the class with the largest logit, else 0. Of the row: ``top_log_p``, the
    largest log-probability, ``mean``, ``variance``, ``sum_of_squares`` of its logits, and ``total``, the sum of a function of its
    probabilities or logits.
    Either c is the true class and all have the shape of the target, or c is every class and they spread over (N, C, *).
    """

    numbers: Mapping[str, Tensor]

    def __getattr__(self, name: str) -> Tensor:
        try:
            return self.numbers[name]
        except KeyError:
            raise AttributeError(f"the formula uses {name!r} but does not say so in needs") from None


Formula = Callable[[Rows], Tensor]

# All of them, in the order in which loops hand them over.
NUMBERS = ("logits", "log_p", "lower_log_p", "top_log_p", "is_top", "mean", "variance", "sum_of_squares", "total")

FEW = 1 << 12  # logits
SORTED = 1 << 16  # logits that are sorted at a time
NARROW = 32  # classes; rows that are shorter are not worth a loop each


@dataclass(frozen=True)
class Needs:
    """Which numbers of a row a formula uses; the softmax is that of (z - margin of class c) / temperature."""

    names: tuple[str, ...]
    total: Callable[[Tensor, Tensor], Tensor] | None = None  # of a probability and its logarithm, or of a logit
    of_logits: bool = False  # which of both
    temperature: float = 1.0
    margin: float = 0.0

    @property
    def softmax(self) -> bool:
        return bool({"log_p", "lower_log_p", "top_log_p"} & {*self.names}) or (self.total is not None and not self.of_logits)

    @property
    def log_p_alone(self) -> bool:
        return self.names == ("log_p",) and not self.margin

    @property
    def closed_form(self) -> bool:
        return not {"total", "top_log_p", "is_top"} & {*self.names}

    @property
    def layout(self) -> tuple[str, ...]:
        """The needed numbers, and what their gradient is made of."""
        state = ("largest", "log_sum") if self.softmax and self.closed_form else ()
        centre = ("mean",) if "variance" in self.names and "mean" not in self.names and self.closed_form else ()
        return (*self.names, *centre, *state)


def average_over_rows(
    logits: Tensor,
    target: Tensor,
    if_class: Formula,
    *,
    needs: tuple[str, ...] = ("log_p",),
    total: Callable[[Tensor, Tensor], Tensor] | None = None,
    total_of_logits: Callable[[Tensor], Tensor] | None = None,
    temperature: float = 1.0,
    margin: float = 0.0,
    weight: Tensor | None,
    ignore_index: int,
    label_smoothing: float,
    reduction: str,
) -> Tensor:
    """Apply the rule for targets, weights and means to a formula l(c).

    Args:
        if_class: l(c) from the :class:`Rows` it ``needs``, with operations that work element by element.
        total: the function of a probability and its logarithm whose sum over the classes is ``rows.total``.
        total_of_logits: the same as a function of a logit.
        temperature: divides the logits before the softmax.
        margin: is taken from the logit of class c before that.
    """
    if total_of_logits is not None:
        wanted = Needs(needs, lambda z, _: total_of_logits(z), True, temperature, margin)
    else:
        wanted = Needs(needs, total, False, temperature, margin)
    weight = None if weight is None else weight.to(torch.promote_types(logits.dtype, torch.float32))
    if logits.ndim == 2 and target.ndim == 1 and not label_smoothing and _blocks.take_arrays(logits, target, weight):
        small = _small(logits, target, weight, if_class, wanted, ignore_index, reduction)
        if small is not None:
            return small
    soft = target.is_floating_point()
    ignored = None if soft else target == ignore_index
    plain = _blocks.take_plain_operations(logits, target, weight)
    if plain and ignored is not None and not label_smoothing and _blocks.can_look(logits, target) and not bool(ignored.any()):
        at = target.long()  # of a small batch it counts how many operations there are
        if wanted.log_p_alone and temperature == 1.0:
            log_p = -cross_entropy(widen(logits), at, reduction="none")
            per_sample = _with_weight(if_class(Rows({"log_p": log_p})), at, weight)
        else:
            per_sample = _cost(widen(logits), at, weight, 0.0, if_class, wanted)
        if reduction == "mean" and weight is not None:
            return reduce(per_sample, weight[at].sum(), reduction)
        return reduce(per_sample, per_sample.numel(), reduction)
    side_by_side = _classes_side_by_side(logits)
    rows = _as_rows(logits, side_by_side)
    shape = (logits.shape[0], *logits.shape[2:])
    if ignored is None:
        at = _as_rows(target, side_by_side)
    else:
        at = target.masked_fill(ignored, 0).long().reshape(rows.shape[0], rows.shape[2])
    if plain:
        per_sample = _cost(widen(rows), at, weight, label_smoothing, if_class, wanted)
    else:
        found = _compiled(rows, at, ignored, weight, label_smoothing, if_class, wanted, reduction)
        if found is not None:
            per_sample = found
        elif soft or label_smoothing:
            per_sample = _Expected.apply(rows, at, weight, label_smoothing, if_class, wanted)[0]  # type: ignore[no-untyped-call]
        else:
            numbers = _Numbers.apply(rows, at, wanted)[0]  # type: ignore[no-untyped-call]
            per_sample = _with_weight(if_class(Rows(dict(zip(wanted.layout, numbers, strict=False)))), at, weight)
    per_sample = per_sample.view(shape)
    if ignored is None:
        return reduce(per_sample, per_sample.numel(), reduction)
    return average_over_kept(per_sample, at.view(shape), ignored, weight, reduction)


def _with_weight(per_sample: Tensor, at: Tensor, weight: Tensor | None) -> Tensor:
    return per_sample if weight is None else per_sample * weight[at]


def _classes_side_by_side(logits: Tensor) -> bool:
    """Whether the classes of a sample are neighbours in memory, as in channels-last images or (N, T, C) turned round."""
    return logits.ndim > 2 and logits.shape[1] > 1 and logits.movedim(1, -1).is_contiguous()


def _as_rows(x: Tensor, side_by_side: bool) -> Tensor:
    """(N, C, *) as (N, C, S), or as (N * S, C, 1) where the classes lie side by side: a view of memory in either order."""
    if side_by_side:
        return x.movedim(1, -1).reshape(-1, x.shape[1], 1)
    return x.flatten(2) if x.ndim > 2 else x.unsqueeze(2)


# The plain operations.


def _cost(z: Tensor, at: Tensor, weight: Tensor | None, label_smoothing: float, if_class: Formula, needs: Needs) -> Tensor:
    """What each row of (N, C, S) costs, from its class (N, S) or its probabilities (N, C, S)."""
    if at.is_floating_point() or label_smoothing:
        return _expected(z, at, weight, label_smoothing, if_class, needs)
    return _with_weight(if_class(Rows(dict(zip(needs.names, _numbers_at(z, at, needs), strict=True)))), at, weight)


def _softmax_parts(z: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Logits minus their row's largest, over the temperature, and the logarithm of the sum of their exponentials."""
    shifted = z - z.detach().amax(1, keepdim=True)
    if temperature != 1.0:
        shifted = shifted / temperature
    return shifted, shifted.exp().sum(1, keepdim=True).log()


def _log_softmax(z: Tensor, temperature: float) -> tuple[Callable[[Tensor], Tensor], Callable[[], Tensor]]:
    """Functions that give the log-probabilities at places (N, 1, S), and all of them.

    The library's own kernel is one operation, but works row by row, which takes four times as long for many short rows.
    """
    if z.numel() <= FEW or z.shape[1] >= NARROW:
        whole = (z if temperature == 1.0 else z / temperature).log_softmax(1)
        return lambda place: whole.gather(1, place), lambda: whole
    shifted, log_sum = _softmax_parts(z, temperature)
    return lambda place: shifted.gather(1, place) - log_sum, lambda: shifted - log_sum


def _moments(z: Tensor, needs: Needs) -> dict[str, Tensor]:
    found = {}
    if "mean" in needs.names or "variance" in needs.names:
        found["mean"] = z.mean(1, keepdim=True)
    if "variance" in needs.names:
        found["variance"] = (z - found["mean"]).square().mean(1, keepdim=True)
    if "sum_of_squares" in needs.names:
        found["sum_of_squares"] = z.square().sum(1, keepdim=True)
    return found


def _numbers_at(z: Tensor, index: Tensor, needs: Needs) -> tuple[Tensor, ...]:
    """The needed numbers with ``index`` (N, S) as class c of each row."""
    at = index.unsqueeze(1)
    found = _moments(z, needs)
    if "logits" in needs.names:
        found["logits"] = z.gather(1, at)
    if needs.softmax:
        log_p_at, log_p = _log_softmax(_less_margin(z, at, needs.margin), needs.temperature)
        found["log_p"] = log_p_at(at)
        if "lower_log_p" in needs.names:
            below = z.detach() < z.detach().gather(1, at)
            place = z.detach().masked_fill(~below, -torch.inf).argmax(1, keepdim=True)
            lower = log_p_at(place)
            found["lower_log_p"] = torch.where(below.any(1, keepdim=True), lower, -torch.inf)
        if "top_log_p" in needs.names:
            found["top_log_p"] = log_p_at(z.detach().argmax(1, keepdim=True))
        if needs.total is not None and not needs.of_logits:
            all_log_p = log_p()
            found["total"] = needs.total(all_log_p.exp(), all_log_p).sum(1, keepdim=True)
    if "is_top" in needs.names:
        found["is_top"] = (z.detach().argmax(1, keepdim=True) == at).to(z.dtype)
    if needs.total is not None and needs.of_logits:
        found["total"] = needs.total(z, z).sum(1, keepdim=True)
    return tuple(found[name].squeeze(1) for name in needs.names)


def _rows_of_all(z: Tensor, needs: Needs) -> Rows:
    """The needed numbers with every class of (N, C, S) as c."""
    found = {"logits": z, **_moments(z, needs)}
    if needs.softmax:
        shifted, log_sum = _softmax_parts(z, needs.temperature)
        found["log_p"] = shifted - log_sum
        if needs.margin:
            found["log_p"] = _with_margin(found["log_p"], needs.margin / needs.temperature)
        if "lower_log_p" in needs.names:
            found["lower_log_p"] = _next_lower(z.detach(), found["log_p"])
        if "top_log_p" in needs.names:
            found["top_log_p"] = found["log_p"].gather(1, z.detach().argmax(1, keepdim=True))
        if needs.total is not None and not needs.of_logits:
            found["total"] = needs.total(found["log_p"].exp(), found["log_p"]).sum(1, keepdim=True)
    if "is_top" in needs.names:
        found["is_top"] = torch.zeros_like(z).scatter(1, z.detach().argmax(1, keepdim=True), 1.0)
    if needs.total is not None and needs.of_logits:
        found["total"] = needs.total(z, z).sum(1, keepdim=True)
    return Rows(found)


def _less_margin(z: Tensor, at: Tensor, margin: float) -> Tensor:
    """The logits with those of class ``at`` lowered."""
    return z.scatter_add(1, at, z.new_full((), -margin).expand_as(at)) if margin else z


def _with_margin(log_p: Tensor, margin: float) -> Tensor:
    """The log-probability of each class if its own logit were lower by the margin."""
    largest = log_p.detach().argmax(1, keepdim=True)
    # log(1 - p); of the largest p only the others' own sum tells it to full precision
    log_others = log_p.scatter(1, largest, -torch.inf).logsumexp(1, keepdim=True)
    is_largest = torch.zeros_like(log_p, dtype=torch.bool).scatter(1, largest, True)
    log_not_p = torch.where(is_largest, log_others, torch.log1p(-log_p.masked_fill(is_largest, -1.0).exp()))
    return -torch.nn.functional.softplus(log_not_p + margin - log_p, threshold=40)


def _next_lower(z: Tensor, log_p: Tensor) -> Tensor:
    """For each class, the largest log-probability strictly below its own, or -inf."""
    ascending, order = z.sort(1)
    place = torch.arange(z.shape[1], device=z.device).view(-1, 1).expand_as(order)
    below_is_less = ascending > ascending.roll(1, 1)  # false at place 0, whose neighbour is the largest
    lower_place = torch.where(below_is_less, place - 1, -1).cummax(1).values  # classes that tie share their neighbour
    lower = log_p.gather(1, order.gather(1, lower_place.clamp_min(0)))
    return torch.where(lower_place < 0, -torch.inf, lower).gather(1, order.argsort(1))


def _distribution(target: Tensor, z: Tensor, label_smoothing: float) -> Tensor:
    """The target distribution q (N, C, S) from class indices (N, S) or from probabilities."""
    classes = z.shape[1]
    if target.is_floating_point():
        q = target.to(z.dtype)
        return q * (1 - label_smoothing) + label_smoothing / classes if label_smoothing else q
    q = torch.full_like(z, label_smoothing / classes)
    return q.scatter_add(1, target.unsqueeze(1), torch.full_like(q[:, :1], 1 - label_smoothing))


def _expected(z: Tensor, target: Tensor, weight: Tensor | None, label_smoothing: float, if_class: Formula, needs: Needs) -> Tensor:
    """sum_c q_c w_c l(c) for each row of (N, C, S)."""
    return (_mass(target, z, weight, label_smoothing) * if_class(_rows_of_all(z, needs))).sum(1)


def _mass(target: Tensor, z: Tensor, weight: Tensor | None, label_smoothing: float) -> Tensor:
    """q_c w_c of each class."""
    q = _distribution(target, z, label_smoothing)
    return q if weight is None else q * weight.view(-1, 1)


# The same with NumPy.


def _small(
    logits: Tensor, target: Tensor, weight: Tensor | None, if_class: Formula, needs: Needs, ignore_index: int, reduction: str
) -> Tensor | None:
    """The loss of a small batch, or None if something is ignored, or the formula is not written down."""
    at = target.numpy()
    classes = at.tolist() if at.size <= 64 else (int(at.min(initial=0)), int(at.max(initial=0)))
    if not at.size or min(classes) < 0 or max(classes) >= logits.shape[1] or (ignore_index >= 0 and (at == ignore_index).any()):
        return None
    cost = _formulas.arrays(_of_numbers(if_class, needs.names), inputs=len(NUMBERS))
    curve = None if needs.total is None else _formulas.arrays(needs.total, inputs=2)
    if cost is None or (curve is None and needs.total is not None):
        return None
    if cost.operations == 1 and needs.log_p_alone and needs.temperature == 1.0:
        return None  # the cross-entropy, which PyTorch has as one operation
    own_weight = None if weight is None else weight.numpy()[at]
    divisor = at.size if own_weight is None else own_weight.sum() or 1.0
    scale = np.float32(1 / divisor if reduction == "mean" else 1.0)
    factor = scale if own_weight is None else own_weight * scale

    def compute(z: Any, wanted: bool) -> tuple[Any, Any]:
        value, slope = _row_arrays.costs_and_slopes(z, at, needs, cost, curve, factor, wanted)
        if reduction == "none":
            return value * factor, slope
        return (value.sum() * scale if own_weight is None else (value * factor).sum()), slope

    def plain(z: Tensor) -> Tensor:
        per_sample = _cost(z, target.long(), weight, 0.0, if_class, needs)
        return per_sample if reduction == "none" else per_sample.sum() * float(scale)

    found: Tensor = _row_arrays.Loss.apply(logits, compute, plain)  # type: ignore[no-untyped-call]
    return found


def _of_numbers(if_class: Formula, names: tuple[str, ...]) -> Callable[..., Tensor]:
    """The formula as a function of all :data:`NUMBERS`."""
    return lambda *numbers: if_class(Rows({name: numbers[NUMBERS.index(name)] for name in names}))


# The same in a compiled loop.


def _compiled(
    rows: Tensor,
    at: Tensor,
    ignored: Tensor | None,
    weight: Tensor | None,
    label_smoothing: float,
    if_class: Formula,
    needs: Needs,
    reduction: str,
) -> Tensor | None:
    """What each row costs (N, 1), or None where there is no loop for it."""
    if rows.shape[2] != 1 or rows.shape[1] < NARROW or not _blocks.take_compiled_loops(rows, at, weight):
        return None
    hard = not (at.is_floating_point() or label_smoothing)
    if needs.margin and needs.names != ("log_p",):
        return None
    divisor: float = rows.shape[0]
    if ignored is not None:
        if rows.shape[0] and (int(at.amin()) < 0 or int(at.amax()) >= rows.shape[1]):
            return None  # the plain operations say what is wrong
        at = at.masked_fill(ignored.reshape(at.shape), -1)
        if reduction == "mean":
            kept = at[at >= 0]
            divisor = kept.numel() if weight is None else float(weight[kept].sum())
    from lossary import _row_loops

    names = needs.names
    cost = _formulas.scalars(_of_numbers(if_class, names), inputs=len(NUMBERS))
    curve = None if needs.total is None else _formulas.scalars(needs.total, inputs=2)
    if cost is None or (curve is None and needs.total is not None):
        return None
    plain = at.dtype == torch.float32 and weight is None and not label_smoothing
    run = _row_loops.of_rows(cost.function, curve and curve.function, names, needs.of_logits, bool(needs.margin), hard, plain)
    constants = cost.constants, curve.constants if curve else ()
    scale = 1.0 / divisor if reduction == "mean" and divisor else 1.0
    found: Tensor = _Compiled.apply(rows, at, weight, label_smoothing, if_class, needs, run, constants, scale)  # type: ignore[no-untyped-call]
    return found


class _Compiled(torch.autograd.Function):
    """:func:`_cost` in one compiled loop, which writes the gradient at once for the upstream that will probably come."""

    @staticmethod
    def forward(
        ctx: Any,
        z: Tensor,
        at: Tensor,
        weight: Tensor | None,
        label_smoothing: float,
        if_class: Formula,
        needs: Needs,
        run: Any,
        constants: tuple[tuple[Any, ...], tuple[Any, ...]],
        scale: float,
    ) -> Tensor:
        ctx.rule = label_smoothing, if_class, needs
        ctx.run, ctx.constants = run, constants
        value, gradient = _loop(run, z, at, weight, label_smoothing, needs, constants, scale, ctx.needs_input_grad[0])
        ctx.early = _blocks.Early(gradient, scale)
        ctx.save_for_backward(z, at, weight)
        return value

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        z, at, weight = ctx.saved_tensors
        label_smoothing, if_class, needs = ctx.rule
        if torch.is_grad_enabled():  # somebody wants to differentiate the gradient
            index = at if at.is_floating_point() else at.clamp_min(0)
            pull = torch.func.vjp(lambda z: _cost(z, index, weight, label_smoothing, if_class, needs), z)[1]
            return (pull(upstream)[0], *[None] * 8)
        gradient = ctx.early.take(upstream)
        if gradient is None:
            again = _loop(ctx.run, z, at, weight, label_smoothing, needs, ctx.constants, 1.0, True)[1]
            gradient = _blocks.Early(again, 1.0).take(upstream)
        return (gradient, *[None] * 8)


def _loop(
    run: Any,
    z: Tensor,
    at: Tensor,
    weight: Tensor | None,
    label_smoothing: float,
    needs: Needs,
    constants: tuple[tuple[Any, ...], tuple[Any, ...]],
    scale: float,
    wanted: bool,
) -> tuple[Tensor, Tensor | None]:
    """The cost of each row (N, 1), and the gradient times the scale (N, C, 1)."""
    from lossary._kernels import f32, over_rows
    from lossary._row_loops import sorted_keys

    value = z.new_empty(z.shape[0], 1)
    gradient = torch.empty_like(z) if wanted else None
    soft = at.is_floating_point()
    narrow = at.dtype in (torch.float16, torch.bfloat16)
    q = (at.float() if narrow else at).squeeze(2).contiguous() if soft else None
    index = torch.zeros(z.shape[0], dtype=torch.int64) if soft else at.squeeze(1).contiguous()
    given = (z.detach().squeeze(2), index, q, gradient if gradient is None else gradient.squeeze(2), value.squeeze(1))
    arrays: list[Any] = [None if x is None else x.numpy() for x in given]
    logits, classes, probabilities, slopes, costs = arrays
    weights = None if weight is None else weight.detach().contiguous().numpy()
    numbers = f32(label_smoothing), f32(needs.temperature), f32(needs.margin), *constants
    upstream = f32(scale)

    def part(x: Any, rows: slice) -> Any:
        return None if x is None else x[rows]

    def go(rows: slice, order: Any = None) -> None:
        run(
            part(logits, rows), part(classes, rows), part(probabilities, rows), weights, *numbers, upstream,
            part(costs, rows), part(slopes, rows), order,
        )  # fmt: skip

    def go_sorted(rows: slice) -> None:
        for start in range(rows.start or 0, min(rows.stop, z.shape[0]), step):
            block = slice(start, min(start + step, rows.stop))
            go(block, sorted_keys(logits[block]))

    step = max(1, SORTED // z.shape[1])
    over_rows(go_sorted if "lower_log_p" in needs.names and (soft or label_smoothing) else go, z.shape[0])
    return value, gradient


# The same in blocks.


def _place_of_next_lower(block: Tensor, true: Tensor, scratch: Tensor) -> tuple[Tensor, Tensor]:
    """Where the largest logit below the true class's stands in each row, and whether there is one.

    It has the most negative reciprocal of the difference; arithmetic and minima run at the speed of memory, which comparisons and
    searches do not, so long rows are searched in two levels.
    """
    gap = torch.sub(block, true, out=scratch).reciprocal_()
    n, classes, space = gap.shape
    width = 32
    groups = classes // width
    if groups < 8 or space > 1:
        place = gap.argmin(1, keepdim=True)
    else:
        whole, rest = gap[:, : groups * width].unflatten(1, (groups, width)), gap[:, groups * width :]
        coarse = torch.cat([whole.amin(2), rest], 1).argmin(1, keepdim=True)
        group = coarse.clamp_max(groups - 1)
        fine = whole.gather(1, group.unsqueeze(2).expand(n, 1, width, 1)).argmin(2)
        place = torch.where(coarse < groups, group * width + fine, coarse + groups * (width - 1))
    return place, gap.gather(1, place) < 0


class _Numbers(torch.autograd.Function):
    """The numbers of each row at its true class (K, N, S), as :attr:`Needs.layout` lists them; and where the lower class is."""

    @staticmethod
    def forward(z: Tensor, index: Tensor, needs: Needs) -> tuple[Tensor, Tensor]:
        dtype = torch.promote_types(z.dtype, torch.float32)
        numbers = z.new_empty(len(needs.layout), z.shape[0], z.shape[2], dtype=dtype)
        lower = torch.empty_like(index) if "lower_log_p" in needs.names else index.new_empty(0)
        work = _blocks.scratch(z, dtype)
        for rows, space in _blocks.of_classes(z):
            block, at = z[rows, :, space].to(dtype), index[rows, None, space]
            if not needs.closed_form:
                numbers[:, rows, space] = torch.stack(_numbers_at(block, index[rows, space], needs))
                continue
            found = {}
            if "logits" in needs.names:
                found["logits"] = block.gather(1, at)
            if "sum_of_squares" in needs.names:
                found["sum_of_squares"] = torch.linalg.vector_norm(block, dim=1, keepdim=True).square_()
            if "mean" in needs.names or "variance" in needs.names:
                found["mean"] = block.mean(1, keepdim=True)
            if "variance" in needs.names:
                deviation = torch.linalg.vector_norm(block - found["mean"], dim=1, keepdim=True)
                found["variance"] = deviation.square_().div_(z.shape[1])
            if needs.softmax:
                block = _less_margin(block, at, needs.margin)
                largest = block.amax(1, keepdim=True)
                shifted = torch.sub(block, largest, out=work[: block.numel()].view(block.shape))
                if needs.temperature != 1.0:
                    shifted.div_(needs.temperature)
                shifted_true = shifted.gather(1, at)
                exponential = shifted.exp_()
                log_sum = exponential.sum(1, keepdim=True).log()
                found |= {"largest": largest, "log_sum": log_sum, "log_p": shifted_true - log_sum}
                if "lower_log_p" in needs.names:
                    place, exists = _place_of_next_lower(block, block.gather(1, at), scratch=exponential)
                    lower_log_p = (block.gather(1, place) - largest) / needs.temperature - log_sum
                    found["lower_log_p"] = torch.where(exists, lower_log_p, -torch.inf)
                    lower[rows, space] = place.squeeze(1)
            for k, name in enumerate(needs.layout):
                numbers[k, rows, space] = found[name].squeeze(1)
        return numbers, lower

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Needs], output: tuple[Tensor, Tensor]) -> None:
        z, index, ctx.needs = inputs
        numbers, lower = output
        ctx.mark_non_differentiable(lower)
        ctx.save_for_backward(z, index, numbers, lower)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
        z, index, numbers, lower = ctx.saved_tensors
        needs: Needs = ctx.needs
        if torch.is_grad_enabled():  # somebody wants to differentiate the gradient

            def plain(z: Tensor) -> Tensor:
                return torch.stack(_numbers_at(widen(z), index, needs))

            pull = torch.func.vjp(plain, z)[1]
            return pull(upstream[: len(needs.names)])[0], None, None
        if not needs.closed_form:
            out = torch.empty_like(z)
            for rows, space in _blocks.of_classes(z):
                with torch.enable_grad():
                    leaf = z[rows, :, space].to(upstream.dtype).detach().requires_grad_()
                    block = torch.stack(_numbers_at(leaf, index[rows, space], needs))
                out[rows, :, space] = torch.autograd.grad(block, leaf, upstream[:, rows, space])[0]
            return out, None, None
        return _gradient(z, index, numbers, lower, upstream, needs), None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], z: Tensor, index: Tensor, needs: Needs) -> Any:
        z, index = _blocks.mapped_first(z, in_dims[0], info.batch_size), _blocks.mapped_first(index, in_dims[1], info.batch_size)
        numbers, lower = _Numbers.apply(z.flatten(0, 1), index.flatten(0, 1), needs)  # type: ignore[no-untyped-call]
        lower_dim = 0 if lower.numel() else None
        shape = (info.batch_size, index.shape[1])
        return (numbers.unflatten(1, shape), lower.unflatten(0, shape) if lower.numel() else lower), (1, lower_dim)


def _gradient(z: Tensor, index: Tensor, numbers: Tensor, lower: Tensor, upstream: Tensor, needs: Needs) -> Tensor:
    """The gradient of the numbers in closed form, block by block straight into its place."""
    classes, temperature = z.shape[1], needs.temperature
    number, slope = dict(zip(needs.layout, numbers, strict=True)), dict(zip(needs.layout, upstream, strict=True))
    nothing = torch.zeros_like(upstream[0])
    to_log_p, to_lower = slope.get("log_p", nothing) / temperature, slope.get("lower_log_p", nothing) / temperature
    if "lower_log_p" in number:
        to_lower = torch.where(number["lower_log_p"] == -torch.inf, 0.0, to_lower)
    to_p = -(to_log_p + to_lower)
    to_true = slope.get("logits", nothing) + to_log_p
    to_logits = 2 * slope["sum_of_squares"] if "sum_of_squares" in slope else None
    out = torch.empty_like(z)
    for rows, space in _blocks.of_classes(z):
        block, place = z[rows, :, space].to(numbers.dtype), out[rows, :, space]

        def spread(per_row: Tensor, rows: slice = rows, space: slice = space) -> Tensor:
            return per_row[rows, None, space]

        target = place if place.dtype == numbers.dtype else torch.empty_like(block)
        if needs.softmax:
            shifted = torch.sub(_less_margin(block, spread(index), needs.margin), spread(number["largest"]), out=target)
            if temperature != 1.0:
                shifted.div_(temperature)
            shifted.exp_().mul_(spread(to_p) * (-spread(number["log_sum"])).exp_())
        else:
            target.zero_()
        if to_logits is not None:
            target.addcmul_(block, spread(to_logits))
        if "variance" in slope:
            target.addcmul_(block - spread(number["mean"]), spread(slope["variance"] * (2 / classes)))
        if "mean" in needs.names:
            target.add_(spread(slope["mean"] / classes))
        target.scatter_add_(1, spread(index), spread(to_true))
        if "lower_log_p" in number:
            target.scatter_add_(1, spread(lower), spread(to_lower))
        if target is not place:
            place.copy_(target)
    return out


class _Expected(torch.autograd.Function):
    """:func:`_expected` block by block, with the largest logit and the logarithm of the sum of each row (2, N, S).

    Where the formula looks at ``log_p`` alone, the softmax is differentiated in closed form and only the formula by its operations;
    else all of the block's operations are.
    """

    @staticmethod
    def forward(
        z: Tensor, target: Tensor, weight: Tensor | None, label_smoothing: float, if_class: Formula, needs: Needs
    ) -> tuple[Tensor, Tensor]:
        value = z.new_empty(z.shape[0], z.shape[2], dtype=torch.promote_types(z.dtype, torch.float32))
        state = value.new_empty(2, *value.shape) if needs.log_p_alone else value.new_empty(0)
        for rows, space in _blocks.of_classes(z):
            block, part = z[rows, :, space].to(value.dtype), target[rows, ..., space]
            if not needs.log_p_alone:
                value[rows, space] = _expected(block, part, weight, label_smoothing, if_class, needs)
                continue
            largest = block.amax(1, keepdim=True)
            shifted = block - largest
            if needs.temperature != 1.0:
                shifted.div_(needs.temperature)
            log_sum = shifted.exp().sum(1, keepdim=True).log_()
            each = if_class(Rows({"log_p": shifted.sub_(log_sum)}))
            value[rows, space] = (each * _mass(part, block, weight, label_smoothing)).sum(1)
            state[0, rows, space], state[1, rows, space] = largest.squeeze(1), log_sum.squeeze(1)
        return value, state

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        z, target, weight, ctx.label_smoothing, ctx.if_class, ctx.needs = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(z, target, weight, output[1])

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        z, target, weight, state = ctx.saved_tensors
        label_smoothing, if_class, needs = ctx.label_smoothing, ctx.if_class, ctx.needs
        if torch.is_grad_enabled():  # somebody wants to differentiate the gradient
            pull = torch.func.vjp(lambda z: _expected(widen(z), target, weight, label_smoothing, if_class, needs), z)[1]
            return (pull(upstream)[0], *[None] * 5)
        out = torch.empty_like(z)
        for rows, space in _blocks.of_classes(z):
            block, part, to_value = z[rows, :, space].to(upstream.dtype), target[rows, ..., space], upstream[rows, None, space]
            if not needs.log_p_alone:
                with torch.enable_grad():
                    leaf = block.detach().requires_grad_()
                    value = _expected(leaf, part, weight, label_smoothing, if_class, needs)
                out[rows, :, space] = torch.autograd.grad(value, leaf, to_value.squeeze(1))[0]
                continue
            log_p = block - state[0, rows, None, space]
            if needs.temperature != 1.0:
                log_p.div_(needs.temperature)
            log_p.sub_(state[1, rows, None, space])
            mass = _mass(part, block, weight, label_smoothing) * (to_value / needs.temperature)
            with torch.enable_grad():
                each = if_class(Rows({"log_p": log_p.requires_grad_()}))
            (slope,) = torch.autograd.grad(each, log_p, mass)
            p = log_p.detach().exp_()
            torch.sub(slope, p.mul_(slope.sum(1, keepdim=True)), out=p)
            out[rows, :, space] = p
        return (out, *[None] * 5)

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        z: Tensor,
        target: Tensor,
        weight: Tensor | None,
        label_smoothing: float,
        if_class: Formula,
        needs: Needs,
    ) -> Any:
        z, target = _blocks.mapped_first(z, in_dims[0], info.batch_size), _blocks.mapped_first(target, in_dims[1], info.batch_size)
        if weight is not None and in_dims[2] is not None:  # every run has weights of its own: they go into the target
            own = _blocks.mapped_first(weight, in_dims[2], info.batch_size)
            classes = own.flatten(1)[:, None, :, None]
            target = torch.stack([_distribution(t, x, label_smoothing) for t, x in zip(target, widen(z), strict=True)]) * classes
            weight, label_smoothing = None, 0.0
        inputs = (z.flatten(0, 1), target.flatten(0, 1), weight, label_smoothing, if_class, needs)
        value, state = _Expected.apply(*inputs)  # type: ignore[no-untyped-call]
        shape = (info.batch_size, z.shape[1])
        if not needs.log_p_alone:
            return (value.unflatten(0, shape), state), (0, None)
        return (value.unflatten(0, shape), state.unflatten(1, shape)), (0, 1)
