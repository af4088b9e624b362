"""Losses of independent labels at the speed of memory: one read of logits and targets, one write of the gradient.

A loss here is two curves of a logit, its cost if the label is one and if it is zero; a target between mixes them. On a processor an
input goes through one compiled loop, which also writes the gradient (:mod:`lossary._fast.tracing`). On accelerators, in other
precisions and under ``vmap`` it goes through in blocks of rows; what is small there, and ``torch.compile``, take plain operations.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lossary._core.checks import check_broadcast
from lossary._core.objective import is_ignored, reduce, widen
from lossary._fast import dispatch, tracing
from lossary._fast.one_pass import in_one_pass

Pair = tuple[Tensor, Tensor]
Curves = Callable[..., Pair]  # of logits, and of what belongs to each label: the cost if the label is one, and if it is zero

NARROW = 64  # columns


class Rule(NamedTuple):
    """What becomes of the curves: which targets to leave out, and how far to smooth the others."""

    curves: Curves
    ignore_index: int
    label_smoothing: float
    per_element: bool

    def costs(self, z: Tensor, of_label: Tensor | None) -> Pair:
        return self.curves(z) if of_label is None else self.curves(z, of_label)


def average_over_labels(
    owner: str,
    logits: Tensor,
    target: Tensor,
    curves: Curves,
    *,
    of_label: Tensor | None = None,
    weight: Tensor | None,
    pos_weight: Tensor | None,
    ignore_index: int,
    label_smoothing: float,
    reduction: str,
) -> Tensor:
    """The rule of targets and means for independent labels: ``w (q v l(1) + (1 - q) l(0))`` with v = ``pos_weight``; the mean is
    over all elements that are not ignored, whatever their weights, as in :class:`torch.nn.BCEWithLogitsLoss`. The curves get
    ``of_label`` (L, *) beside the logits (N, L, *) where it is given."""
    check_broadcast(owner, "weight", weight, logits)
    check_broadcast(owner, "pos_weight", pos_weight, logits)
    rule = Rule(curves, ignore_index, label_smoothing, reduction == "none")
    scale = 1.0 / max(1, logits.numel()) if reduction == "mean" else 1.0
    if dispatch.take_compiled_loops(logits, target, weight, pos_weight, of_label):
        found = _in_one_pass(logits, target, weight, pos_weight, of_label, rule, scale, reduction)
        if found is not None:
            return found[0]
    if dispatch.take_plain_operations(logits, target, weight, pos_weight, of_label) and dispatch.can_look(logits, target):
        ignored = is_ignored(target, ignore_index)
        if (
            not bool(ignored.any()) and logits.numel() and bool(logits.amin() > -torch.inf)
        ):  # of a small batch it counts how many operations there are
            z = widen(logits)
            mixed = _lerped(rule.costs(z, of_label), target.to(z.dtype), weight, pos_weight, label_smoothing)
            return reduce(mixed, mixed.numel(), reduction)
    value, count = _cost_of_rows(logits, target, weight, pos_weight, of_label, rule)
    return value if reduction == "none" else reduce(value, count.sum(), reduction)


def cost_of_rows(logits: Tensor, target: Tensor, weight: Tensor | None, pos_weight: Tensor | None, rule: Rule) -> Pair:
    """The cost of each row (or element) of (N, *), and how many elements of each row count.

    The target has the shape of the logits or, for logits (N, C), is the one label that is 1 in each row (N,), C if there is none.
    """
    if dispatch.take_compiled_loops(logits, target, weight, pos_weight):
        found = _in_one_pass(logits, target, weight, pos_weight, None, rule, 1.0, "none")
        if found is not None:
            return found
    return _cost_of_rows(logits, target, weight, pos_weight, None, rule)


def sum_over_rows(
    logits: Tensor, target: Tensor, weight: Tensor | None, pos_weight: Tensor | None, rule: Rule, scale: float
) -> Tensor:
    """The sum of the costs of :func:`cost_of_rows`, times the scale."""
    if dispatch.take_compiled_loops(logits, target, weight, pos_weight):
        found = _in_one_pass(logits, target, weight, pos_weight, None, rule, scale, "sum")
        if found is not None:
            return found[0]
    return _cost_of_rows(logits, target, weight, pos_weight, None, rule)[0].sum() * scale


def _cost_of_rows(
    logits: Tensor, target: Tensor, weight: Tensor | None, pos_weight: Tensor | None, of_label: Tensor | None, rule: Rule
) -> Pair:
    dtype = torch.promote_types(logits.dtype, torch.float32)
    weight, pos_weight = (None if factor is None else factor.to(dtype).expand_as(logits) for factor in (weight, pos_weight))
    if dispatch.take_plain_operations(logits, target, weight, pos_weight, of_label):
        return _cost(widen(logits), target, weight, pos_weight, of_label, rule)
    found: Pair = _Cost.apply(logits, target, weight, pos_weight, of_label, rule)  # type: ignore[no-untyped-call]
    return found


def _cost(z: Tensor, target: Tensor, weight: Tensor | None, pos_weight: Tensor | None, of_label: Tensor | None, rule: Rule) -> Pair:
    """:func:`cost_of_rows` in plain operations."""
    target = labels_of(target, z)
    ignored = is_ignored(target, rule.ignore_index)
    q = target.to(z.dtype).masked_fill(ignored, 0.0)
    ignored = ignored | ((z == -torch.inf) & (q == 0))  # a label masked by -inf is not there
    z = z.masked_fill(ignored, 0.0)  # what is ignored may be anything, and 0 times NaN would be NaN in its gradient
    mixed = _lerped(rule.costs(z, of_label), q, weight, pos_weight, rule.label_smoothing).masked_fill(ignored, 0.0)
    return mixed if rule.per_element else _row_sums(mixed), _row_sums((~ignored).to(z.dtype))


def _lerped(pair: Pair, q: Tensor, weight: Tensor | None, pos_weight: Tensor | None, label_smoothing: float) -> Tensor:
    if_one, if_zero = pair
    if label_smoothing:
        q = q * (1 - label_smoothing) + label_smoothing / 2
    if pos_weight is not None:
        if_one = if_one * pos_weight
    mixed = torch.lerp(if_zero, if_one, q)
    return mixed if weight is None else mixed * weight


def labels_of(target: Tensor, z: Tensor) -> Tensor:
    """The target spread over (N, C), if it is one label of each row."""
    if target.ndim == z.ndim:
        return target
    # one column more, which is dropped: it stands for none
    return z.new_zeros(z.shape[0], z.shape[1] + 1).scatter(1, target.long().unsqueeze(1), 1.0)[:, :-1]


def _row_sums(x: Tensor) -> Tensor:
    return x.flatten(1).sum(1) if x.ndim > 1 else x


def _part(factor: Tensor | None, rows: slice) -> Tensor | None:
    return None if factor is None else factor[rows]


class _Cost(torch.autograd.Function):
    """:func:`_cost` in blocks of rows."""

    @staticmethod
    def forward(
        z: Tensor, target: Tensor, weight: Tensor | None, pos_weight: Tensor | None, of_label: Tensor | None, rule: Rule
    ) -> Pair:
        dtype = torch.promote_types(z.dtype, torch.float32)
        value = z.new_empty(z.shape if rule.per_element else z.shape[:1], dtype=dtype)
        count = z.new_empty(z.shape[:1], dtype=dtype)
        for rows in dispatch.of_rows(z):
            factors = _part(weight, rows), _part(pos_weight, rows)
            value[rows], count[rows] = _cost(z[rows].to(dtype), target[rows], *factors, of_label, rule)
        return value, count

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Pair) -> None:
        *tensors, ctx.rule = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        z, target, weight, pos_weight, of_label = ctx.saved_tensors
        rule: Rule = ctx.rule
        if torch.is_grad_enabled():  # somebody wants to differentiate the gradient
            pull = torch.func.vjp(lambda z: _cost(widen(z), target, weight, pos_weight, of_label, rule)[0], z)[1]
            return (pull(upstream)[0], *[None] * 5)
        out = torch.empty_like(z)
        for rows in dispatch.of_rows(z):
            factors = _part(weight, rows), _part(pos_weight, rows)
            with torch.enable_grad():
                leaf = z[rows].to(upstream.dtype).detach().requires_grad_()
                cost, _ = _cost(leaf, target[rows], *factors, of_label, rule)
            out[rows] = torch.autograd.grad(cost, leaf, upstream[rows])[0]
        return (out, *[None] * 5)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> Any:
        size, of_label, rule = info.batch_size, inputs[4], inputs[5]
        if in_dims[4] is not None:  # each run has numbers of its labels of its own
            runs = [
                [x if dim is None else x.select(dim, run) for x, dim in zip(inputs[:5], in_dims[:5], strict=True)]
                for run in range(size)
            ]
            found = zip(*(_Cost.apply(*run, rule) for run in runs), strict=True)  # type: ignore[no-untyped-call]
            return tuple(map(torch.stack, found)), (0, 0)
        tensors = [
            None if x is None else dispatch.mapped_first(x, dim, size).flatten(0, 1)
            for x, dim in zip(inputs[:4], in_dims[:4], strict=True)
        ]
        value, count = _Cost.apply(*tensors, of_label, rule)  # type: ignore[no-untyped-call]
        return (value.unflatten(0, (size, -1)), count.unflatten(0, (size, -1))), (0, 0)


class _Loop(NamedTuple):
    run: Any
    constants: tuple[Any, ...]
    over_rows: Any  # as importing it again at every call would take a microsecond or two
    counted: Any


@functools.lru_cache(maxsize=256)
def _loop_of(curves: tracing.Known, passed: int) -> _Loop | None:
    """The compiled loop for two curves of a logit and perhaps of what belongs to its label, or None if there is none."""
    from lossary._fast import mathematics
    from lossary._fast.labels import loop as labels_loop

    text = tracing.scalars(curves.formula, inputs=2, passed=passed)
    if text is None:
        return None
    return _Loop(labels_loop.of_labels(text.text), text.constants, labels_loop.over_rows, mathematics.counted)


def _in_one_pass(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None,
    pos_weight: Tensor | None,
    of_label: Tensor | None,
    rule: Rule,
    scale: float,
    reduction: str,
) -> Pair | None:
    """:func:`cost_of_rows`, or their sum or mean times a scale, in one compiled loop; None where there is none.

    Of a mean the scale is one over the number of elements, and what is ignored is made up for.
    """
    shape, size = logits.shape, logits.numel()
    loop = tracing.ask(_loop_of, size, tracing.Known(rule.curves), 1 if of_label is None else 2)
    if loop is None or not logits.is_contiguous():
        return None
    n = shape[0] if shape else 1
    columns = size // n
    indices = target.ndim < logits.ndim
    apart = reduction == "none" and not rule.per_element  # the rows are to be told apart
    # Rows that are too short to be worth a loop each are one long row, if there are many, or if nothing is lost.
    beside = weight is not None or pos_weight is not None or of_label is not None
    flat = columns < NARROW and not indices and (size > dispatch.SMALL or not (apart or beside))
    rows = (1, size) if flat else (n, columns)
    y = target.float() if target.dtype in (torch.float16, torch.bfloat16) else target
    if indices:
        y = y.contiguous()
        if loop.counted(y.numpy(), columns + 1, -1, None) != n:
            return None  # a label that does not exist, which the plain operations say
    if weight is not None or pos_weight is not None:
        weight, pos_weight = (None if x is None else x.to(logits.dtype).expand(shape) for x in (weight, pos_weight))
    if of_label is not None:
        of_label = of_label.to(logits.dtype).expand(shape[1:])
    numbers = loop.constants, float(rule.ignore_index), float(rule.label_smoothing), scale

    def compute(
        wanted: bool, z: Tensor, y: Tensor, weight: Tensor | None, pos_weight: Tensor | None, of_label: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        gradient, each, slopes, costs, beside_label = None, None, None, None, None
        if of_label is not None:
            beside_label = (of_label.expand(shape) if flat else of_label).reshape(-1).numpy()
        if wanted:
            gradient = torch.empty_like(z)
            slopes = gradient.numpy().reshape(rows)
        if rule.per_element or (flat and apart):
            each = torch.empty_like(z)
            costs = each.numpy().reshape(rows)
        value, kept = np.empty(rows[0], np.float32), np.empty(rows[0], np.float32)
        labels = y.numpy() if indices else y.numpy().reshape(rows)
        factors = [None if x is None else x.numpy().reshape(rows) for x in (weight, pos_weight)]
        given = z.detach().numpy().reshape(rows), labels, *factors
        total, count = loop.over_rows(loop.run, given, beside_label, numbers, (value, costs, kept, slopes))
        if reduction == "none":
            if each is not None:
                return each if rule.per_element else _row_sums(each), gradient
            return torch.from_numpy(value), gradient, torch.from_numpy(kept)
        if reduction == "mean" and count != size:
            total *= size / (count or 1.0)
            if gradient is not None:
                gradient.mul_(size / (count or 1.0))
        return torch.from_numpy(np.array(total * scale, np.float32)), gradient

    def plain(z: Tensor, y: Tensor, weight: Tensor | None, pos_weight: Tensor | None, of_label: Tensor | None) -> Tensor:
        value, count = _cost(z, y, weight, pos_weight, of_label, rule)
        if reduction == "none":
            return value
        return reduce(value, count.sum(), reduction) * (scale if reduction == "sum" else 1.0)

    found = in_one_pass(compute, plain, logits, y, weight, pos_weight, of_label)
    if apart and flat:
        kept = ~is_ignored(target, rule.ignore_index) & ((logits.detach() != -torch.inf) | (target != 0))
        return found, _row_sums(kept.to(logits.dtype))
    return found if apart else (found, found)
