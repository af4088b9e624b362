"""Losses of one class of several at the speed of memory: one read of the logits, one write of their gradient.

A loss here is a small formula l(c) of a few numbers of each row of logits: the logit and the log-probability of class c, and
sums over the row. A hard label costs l of its class; a soft or smoothed target needs l(c) of every class.

On a processor a batch goes through one compiled loop, which makes the numbers of a row, its cost and its gradient while the row
is in the cache (:mod:`lossary._formulas` says how the formula gets into it). On accelerators, in other precisions, for classes that
are not side by side in memory and under ``vmap`` it goes through in blocks of rows; what is small there, and whatever
``torch.compile`` sees, takes the same formula on plain tensor operations, which is also what second derivatives are made of.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from lossary import _blocks, _formulas
from lossary._objective import average_over_kept, reduce, widen
from lossary._one_pass import in_one_pass


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
NARROW = 32  # classes, below which the library's softmax of many rows is slow
SHORT, MANY = 8, 1 << 13  # classes below which a loop for each row is too much, if there are more logits than so many


class Needs(NamedTuple):
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
    if _blocks.take_compiled_loops(logits, target, weight):
        found = _in_one_pass(logits, target, weight, label_smoothing, if_class, wanted, ignore_index, reduction)
        if found is not None:
            return found
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


# The same in a compiled loop.


class _Loop(NamedTuple):
    run: Any
    constants: tuple[Any, ...]
    constants_of_total: tuple[Any, ...]
    over_rows: Any  # as importing it again at every call would take a microsecond or two
    counted: Any


@functools.lru_cache(maxsize=256)
def _loop_of(
    if_class: _formulas.Known,
    total: _formulas.Known | None,
    names: tuple[str, ...],
    of_logits: bool,
    margined: bool,
    hard: bool,
    plain: bool,
) -> _Loop | None:
    """The compiled loop for a formula, or None if there is none."""
    from lossary import _kernels, _row_loops

    formula: Formula = if_class.formula  # type: ignore[assignment]  # one that gives one number

    def of_numbers(*numbers: Tensor) -> Tensor:
        return formula(Rows({name: numbers[NUMBERS.index(name)] for name in names}))

    cost = _formulas.scalars(of_numbers, inputs=len(NUMBERS))
    curve = None if total is None else _formulas.scalars(total.formula, inputs=2)
    if cost is None or (curve is None and total is not None):
        return None
    run = _row_loops.of_rows(cost.text, curve and curve.text, names, of_logits, margined, hard, plain)
    return _Loop(run, cost.constants, curve.constants if curve else (), _row_loops.over_rows, _kernels.counted)


def _in_one_pass(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None,
    label_smoothing: float,
    if_class: Formula,
    needs: Needs,
    ignore_index: int,
    reduction: str,
) -> Tensor | None:
    """The loss, or None where there is no loop for it, or something is wrong, which the plain operations say."""
    z, at, side_by_side = logits, target, False
    if logits.ndim > 2:
        side_by_side = _classes_side_by_side(logits)
        spread = _as_rows(logits, side_by_side)
        if spread.shape[2] != 1:
            return None
        z = spread.squeeze(2)
    rows, classes = z.shape
    soft = target.is_floating_point()
    hard = not (soft or label_smoothing)
    if not z.is_contiguous() or (classes < SHORT and rows * classes > MANY) or (needs.margin and needs.names != ("log_p",)):
        return None
    if soft:
        at = _as_rows(target, side_by_side).squeeze(2).contiguous()
        at = at.float() if at.dtype in (torch.float16, torch.bfloat16) else at
    elif target.ndim > 1 or target.dtype != torch.int64 or not target.is_contiguous():
        at = target.reshape(-1).long()
    formula, total = _formulas.Known(if_class), None if needs.total is None else _formulas.Known(needs.total)
    plain_masses = soft and not label_smoothing and weight is None and at.dtype == torch.float32
    loop = _formulas.ask(_loop_of, z.numel(), formula, total, needs.names, needs.of_logits, needs.margin != 0, hard, plain_masses)
    if loop is None:
        return None
    weights = None if weight is None else weight.contiguous().numpy()
    classes_of, probabilities = (None, at.numpy()) if soft else (at.numpy(), None)
    kept: float = rows if soft else loop.counted(classes_of, classes, ignore_index, weights)
    if kept != kept:  # NaN: a class that does not exist
        return None
    scale = 1.0 / kept if reduction == "mean" and kept else 1.0
    numbers = (
        float(label_smoothing),
        float(needs.temperature),
        float(needs.margin),
        loop.constants,
        loop.constants_of_total,
        scale,
        ignore_index,
    )

    def compute(z: Tensor, wanted: bool) -> tuple[Tensor, Tensor | None]:
        value, gradient = np.empty(rows, np.float32), torch.empty_like(z) if wanted else None
        given = z.detach().numpy(), classes_of, probabilities, weights
        taken = value, None if gradient is None else gradient.numpy()
        total = loop.over_rows(loop.run, given, numbers, taken, "lower_log_p" in needs.names and not hard)
        return torch.from_numpy(value if reduction == "none" else np.array(total * scale, np.float32)), gradient

    def plain(z: Tensor) -> Tensor:
        ignored = None if soft else at == ignore_index
        index = at if ignored is None else at.masked_fill(ignored, 0)
        per_sample = _cost(z.unsqueeze(2), index.unsqueeze(-1), weight, label_smoothing, if_class, needs).squeeze(1)
        per_sample = per_sample if ignored is None else per_sample.masked_fill(ignored, 0.0)
        return per_sample if reduction == "none" else per_sample.sum() * scale

    found = in_one_pass(z, compute, plain)
    return found if reduction != "none" or logits.ndim == 2 else found.view(logits.shape[0], *logits.shape[2:])


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
