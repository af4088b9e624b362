"""Losses of independent labels at the speed of memory: one read of logits and targets, one write of the gradient.

A loss here is two curves of a logit, its cost if the label is one and if it is zero; a target between mixes them. On a processor a
large input goes through one compiled loop, which also writes the gradient (:mod:`lossary._formulas`). On accelerators, in other
precisions and under ``vmap`` it goes through in blocks of rows; small inputs and ``torch.compile`` take the plain operations.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lossary import _blocks, _formulas
from lossary._checks import check_broadcast
from lossary._objective import reduce, widen

Pair = tuple[Tensor, Tensor]
Curves = Callable[..., Pair]  # of logits, and of what belongs to each label: the cost if the label is one, and if it is zero

NARROW = 64  # columns


@dataclass(frozen=True)
class Rule:
    """What becomes of the curves: which targets to leave out, and how far to smooth the others."""

    curves: Curves
    ignore_index: int
    label_smoothing: float
    per_element: bool
    of_label: Tensor | None = None  # of (L, *): handed to the curves

    def costs(self, z: Tensor) -> Pair:
        return self.curves(z) if self.of_label is None else self.curves(z, self.of_label)


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
    over all elements that are not ignored, whatever their weights, as in :class:`torch.nn.BCEWithLogitsLoss`."""
    check_broadcast(owner, "weight", weight, logits)
    check_broadcast(owner, "pos_weight", pos_weight, logits)
    rule = Rule(curves, ignore_index, label_smoothing, reduction == "none", of_label)
    if _blocks.take_plain_operations(logits, target, weight, pos_weight) and _blocks.can_look(logits, target):
        ignored = target == ignore_index
        if not bool(ignored.any()):  # of a small batch it counts how many operations there are
            z = widen(logits)
            mixed = _lerped(rule.costs(z), target.to(z.dtype), weight, pos_weight, label_smoothing)
            return reduce(mixed, mixed.numel(), reduction)
    scale = 1.0 / max(1, logits.numel()) if reduction == "mean" else 1.0
    value, count = cost_of_rows(logits, target, weight, pos_weight, rule, scale)
    return value if reduction == "none" else reduce(value, count.sum(), reduction)


def cost_of_rows(
    logits: Tensor, target: Tensor, weight: Tensor | None, pos_weight: Tensor | None, rule: Rule, scale: float = 1.0
) -> Pair:
    """The cost of each row (or element) of (N, *), and how many elements of each row count.

    Args:
        target: of the shape of the logits, or, for logits (N, C), the one label that is 1 in each row (N,), C if there is none.
        scale: by what the gradient of the cost will probably be multiplied.
    """
    dtype = torch.promote_types(logits.dtype, torch.float32)
    weight, pos_weight = (None if factor is None else factor.to(dtype).expand_as(logits) for factor in (weight, pos_weight))
    if _blocks.take_plain_operations(logits, target, weight, pos_weight):
        return _cost(widen(logits), target, weight, pos_weight, rule)
    found: Pair
    if _blocks.take_compiled_loops(logits, target, weight, pos_weight):
        indices = target.ndim < logits.ndim
        # rows that are too short for a loop each would need labels spread, and for labels that do not exist others say so
        good = not indices or (logits.shape[1] >= NARROW and int(target.amin()) >= 0 and int(target.amax()) <= logits.shape[1])
        curves = good and _formulas.scalars(rule.curves, inputs=2, passed=1 if rule.of_label is None else 2)
        if curves:
            found = _Compiled.apply(logits, target, weight, pos_weight, rule, curves, scale)  # type: ignore[no-untyped-call]
            return found
    found = _Cost.apply(logits, target, weight, pos_weight, rule)  # type: ignore[no-untyped-call]
    return found


def _cost(z: Tensor, target: Tensor, weight: Tensor | None, pos_weight: Tensor | None, rule: Rule) -> Pair:
    """:func:`cost_of_rows` in plain operations."""
    return _mixed(rule.costs(z), z, target, weight, pos_weight, rule)


def _mixed(pair: Pair, z: Tensor, target: Tensor, weight: Tensor | None, pos_weight: Tensor | None, rule: Rule) -> Pair:
    """Two curves mixed by the target."""
    target = labels_of(target, z)
    ignored = target == rule.ignore_index
    q = target.to(z.dtype).masked_fill(ignored, 0.0)
    mixed = _lerped(pair, q, weight, pos_weight, rule.label_smoothing).masked_fill(ignored, 0.0)
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
    def forward(z: Tensor, target: Tensor, weight: Tensor | None, pos_weight: Tensor | None, rule: Rule) -> Pair:
        dtype = torch.promote_types(z.dtype, torch.float32)
        value = z.new_empty(z.shape if rule.per_element else z.shape[:1], dtype=dtype)
        count = z.new_empty(z.shape[:1], dtype=dtype)
        for rows in _blocks.of_rows(z):
            value[rows], count[rows] = _cost(z[rows].to(dtype), target[rows], _part(weight, rows), _part(pos_weight, rows), rule)
        return value, count

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Pair) -> None:
        z, target, weight, pos_weight, ctx.rule = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(z, target, weight, pos_weight)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        z, target, weight, pos_weight = ctx.saved_tensors
        rule: Rule = ctx.rule
        if torch.is_grad_enabled():  # somebody wants to differentiate the gradient
            pull = torch.func.vjp(lambda z: _cost(widen(z), target, weight, pos_weight, rule)[0], z)[1]
            return (pull(upstream)[0], None, None, None, None)
        out = torch.empty_like(z)
        for rows in _blocks.of_rows(z):
            factors = _part(weight, rows), _part(pos_weight, rows)
            with torch.enable_grad():
                leaf = z[rows].to(upstream.dtype).detach().requires_grad_()
                cost, _ = _cost(leaf, target[rows], *factors, rule)
            out[rows] = torch.autograd.grad(cost, leaf, upstream[rows])[0]
        return (out, None, None, None, None)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> Any:
        size = info.batch_size
        tensors = [
            None if x is None else _blocks.mapped_first(x, dim, size).flatten(0, 1)
            for x, dim in zip(inputs[:4], in_dims[:4], strict=True)
        ]
        value, count = _Cost.apply(*tensors, inputs[4])  # type: ignore[no-untyped-call]
        return (value.unflatten(0, (size, -1)), count.unflatten(0, (size, -1))), (0, 0)


class _Compiled(torch.autograd.Function):
    """:func:`_cost` in one compiled loop, which writes the gradient at once for the upstream that will probably come."""

    @staticmethod
    def forward(
        ctx: Any,
        z: Tensor,
        target: Tensor,
        weight: Tensor | None,
        pos_weight: Tensor | None,
        rule: Rule,
        curves: _formulas.Scalars,
        scale: float,
    ) -> Pair:
        wanted = ctx.needs_input_grad[0]
        value, count, gradient = _loop(z, target, weight, pos_weight, rule, curves, scale, wanted)
        ctx.rule, ctx.curves, ctx.early = rule, curves, _blocks.Early(gradient, scale)
        ctx.save_for_backward(z, target, weight, pos_weight)
        ctx.mark_non_differentiable(count)
        return value, count

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        z, target, weight, pos_weight = ctx.saved_tensors
        rule: Rule = ctx.rule
        if torch.is_grad_enabled():  # somebody wants to differentiate the gradient
            pull = torch.func.vjp(lambda z: _cost(z, target, weight, pos_weight, rule)[0], z)[1]
            return (pull(upstream)[0], *[None] * 6)
        gradient = ctx.early.take(upstream)
        if gradient is None:
            again = _loop(z, target, weight, pos_weight, rule, ctx.curves, 1.0, True)[2]
            gradient = _blocks.Early(again, 1.0).take(upstream)
        return (gradient, *[None] * 6)


def _loop(
    z: Tensor,
    target: Tensor,
    weight: Tensor | None,
    pos_weight: Tensor | None,
    rule: Rule,
    curves: _formulas.Scalars,
    scale: float,
    wanted: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The cost and the number of elements of each row (or the cost of each element), and the gradient times the scale."""
    from lossary import _label_loops
    from lossary._kernels import f32, over_rows

    columns = math.prod(z.shape[1:])
    narrow = columns < NARROW  # rows that are too short to be worth a loop each: all is one row
    shape = (1, z.numel()) if narrow else (z.shape[0], columns)
    each = torch.empty_like(z) if narrow or rule.per_element else None
    gradient = torch.empty_like(z) if wanted else None
    value, count = z.new_empty(shape[0]), z.new_empty(shape[0])
    half = target.dtype in (torch.float16, torch.bfloat16)
    given = [z, target.float() if half else target, weight, pos_weight, each, gradient]
    given = [None if x is None else x.detach().reshape(shape if x.ndim == z.ndim else -1) for x in given]
    arrays: list[Any] = [None if x is None else x.numpy() for x in given]
    of_label = rule.of_label
    if of_label is not None:
        of_label = of_label.to(z.dtype).expand(z.shape if narrow else z.shape[1:]).reshape(-1)
    run, (a, q, w, v, costs, slopes) = _label_loops.of_labels(curves.function), arrays
    over_rows(
        lambda rows: run(
            a[rows], q[rows], None if w is None else w[rows], None if v is None else v[rows],
            None if of_label is None else of_label.numpy(), curves.constants, f32(rule.ignore_index), f32(rule.label_smoothing),
            f32(scale), value.numpy()[rows], None if costs is None else costs[rows], count.numpy()[rows],
            None if slopes is None else slopes[rows],
        ),
        shape[0],
    )  # fmt: skip
    if each is not None:
        value = each if rule.per_element else _row_sums(each)
    if narrow:
        count = _row_sums((target != rule.ignore_index).to(z.dtype))
    return value, count, gradient
