"""Losses of independent labels at the speed of memory: one read of logits and targets, one write of the gradient.

A loss here is two curves of a logit, its cost if the label is one and if it is zero, and their slopes; a target between mixes
them. As in :mod:`lossary._rows`, large inputs go through in blocks of rows that stay in a core's cache, and nothing as large as
the input is kept for the gradient; small inputs and ``torch.compile`` take the plain operations.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lossary import _blocks
from lossary._checks import check_broadcast
from lossary._objective import reduce, widen

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Curves:
    """Cost of a logit if its label is one and if it is zero, and the slopes of both, element by element."""

    costs: Callable[[Tensor], Pair]
    slopes: Callable[[Tensor], Pair]


@dataclass(frozen=True)
class Rule:
    """What becomes of the curves: which targets to leave out, and how far to smooth the others."""

    curves: Curves
    ignore_index: int
    label_smoothing: float
    per_element: bool


def average_over_labels(
    owner: str,
    logits: Tensor,
    target: Tensor,
    curves: Curves,
    *,
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
    rule = Rule(curves, ignore_index, label_smoothing, per_element=reduction == "none")
    value, count = cost_of_rows(logits, target, weight, pos_weight, rule)
    return value if reduction == "none" else reduce(value, count.sum(), reduction)


def cost_of_rows(logits: Tensor, target: Tensor, weight: Tensor | None, pos_weight: Tensor | None, rule: Rule) -> Pair:
    """The cost of each row (or element) of (N, *), and how many elements of each row count."""
    dtype = torch.promote_types(logits.dtype, torch.float32)
    weight, pos_weight = (None if factor is None else factor.to(dtype).expand_as(logits) for factor in (weight, pos_weight))
    if _blocks.take_plain_operations(logits, target, weight, pos_weight):
        return _cost(widen(logits), target, weight, pos_weight, rule)
    found: Pair = _Cost.apply(logits, target, weight, pos_weight, rule)  # type: ignore[no-untyped-call]
    return found


def _cost(z: Tensor, target: Tensor, weight: Tensor | None, pos_weight: Tensor | None, rule: Rule) -> Pair:
    """:func:`cost_of_rows` in plain operations."""
    return _mixed(rule.curves.costs(z), z, target, weight, pos_weight, rule)


def _mixed(
    pair: Pair, z: Tensor, target: Tensor, weight: Tensor | None, pos_weight: Tensor | None, rule: Rule, look: bool = False
) -> Pair:
    """Two curves mixed by the target; ``look`` saves the work for ignored elements where there are none."""
    if_one, if_zero = pair
    q = target.to(z.dtype)
    ignored = None
    if not (look and rule.ignore_index < 0 and bool(q.amin() >= 0)):
        ignored = target == rule.ignore_index
        q = q.masked_fill(ignored, 0.0)
    if rule.label_smoothing:
        q = q * (1 - rule.label_smoothing) + rule.label_smoothing / 2
    if pos_weight is not None:
        if_one = if_one * pos_weight
    mixed = torch.lerp(if_zero, if_one, q)
    if weight is not None:
        mixed = mixed * weight
    if ignored is None:
        count = z.new_full(z.shape[:1], math.prod(z.shape[1:]))
    else:
        mixed = mixed.masked_fill(ignored, 0.0)
        count = _row_sums((~ignored).to(z.dtype))
    return mixed if rule.per_element else _row_sums(mixed), count


def _row_sums(x: Tensor) -> Tensor:
    return x.flatten(1).sum(1) if x.ndim > 1 else x


def _part(factor: Tensor | None, rows: slice) -> Tensor | None:
    return None if factor is None else factor[rows]


class _Cost(torch.autograd.Function):
    """:func:`_cost` in blocks of rows, with its gradient from the slopes."""

    @staticmethod
    def forward(z: Tensor, target: Tensor, weight: Tensor | None, pos_weight: Tensor | None, rule: Rule) -> Pair:
        dtype = torch.promote_types(z.dtype, torch.float32)
        value = z.new_empty(z.shape if rule.per_element else z.shape[:1], dtype=dtype)
        count = z.new_empty(z.shape[:1], dtype=dtype)
        look = z.device.type == "cpu"  # an accelerator would have to wait for the answer
        for rows in _blocks.of_rows(z):
            block = z[rows].to(dtype)
            factors = _part(weight, rows), _part(pos_weight, rows)
            value[rows], count[rows] = _mixed(rule.curves.costs(block), block, target[rows], *factors, rule, look)
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
        each = replace(rule, per_element=True)
        look = z.device.type == "cpu"
        for rows in _blocks.of_rows(z):
            block = z[rows].to(upstream.dtype)
            factors = _part(weight, rows), _part(pos_weight, rows)
            slope, _ = _mixed(rule.curves.slopes(block), block, target[rows], *factors, each, look)
            torch.mul(slope, upstream[rows].reshape(-1, *[1] * (z.ndim - upstream.ndim), *upstream.shape[1:]), out=slope)
            out[rows] = slope
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
