"""Rows of classes of a small batch, with NumPy: see :mod:`lossary._rows` for what is computed.

In a small batch arithmetic is for nothing; what takes time are the operations that Python starts and autograd sees. So value and
gradient are made together, by NumPy on the same memory, and autograd sees one operation.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

Array = Any


class Loss(torch.autograd.Function):
    """A loss (), or losses (N,), with their slopes; ``plain`` is the same in PyTorch's operations, for second derivatives."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, compute: Callable[[Array, bool], tuple[Array, Array]], plain: Any) -> Tensor:
        with np.errstate(all="ignore"):
            value, ctx.slope = compute(logits.detach().numpy(), ctx.needs_input_grad[0])
        ctx.plain = plain
        ctx.save_for_backward(logits)
        return torch.from_numpy(np.asarray(value))

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        if torch.is_grad_enabled():  # somebody wants to differentiate the gradient
            return torch.func.vjp(ctx.plain, *ctx.saved_tensors)[1](upstream)[0], None, None
        by = upstream.numpy()[:, None] if upstream.ndim else np.float32(upstream.item())
        return torch.from_numpy(ctx.slope * by), None, None


def costs_and_slopes(
    z: Array, at: Array, needs: Any, cost: Any, curve: Any, factor: Array, wanted: bool
) -> tuple[Array, Array | None]:
    """What each row of (N, C) costs, and the slope of the cost times a factor (N,) or ()."""
    names, row = needs.names, np.arange(len(z))
    rate, classes = np.float32(1 / needs.temperature), z.shape[1]
    own = z[row, at]
    mean: Array
    mean = log_p = lower = top_log_p = is_top = variance = squares = total = bend = np.float32(0.0)
    if needs.softmax:
        lowered = z
        if needs.margin:
            lowered = z.copy()
            lowered[row, at] -= np.float32(needs.margin)
        largest = lowered.max(1, keepdims=True)
        e = lowered - largest
        if rate != 1:
            e *= rate
        lead, shifted = e[row, at], e.copy() if "total" in names else e
        np.exp(e, out=e)
        sum_exp = e.sum(1)
        log_sum = np.log(sum_exp)
        log_p, top_log_p = lead - log_sum, -log_sum
        if "lower_log_p" in names:
            below = np.where(z < own[:, None], z, np.float32(-np.inf))
            lower_place = below.argmax(1)
            lower = (below[row, lower_place] - largest[:, 0]) * rate - log_sum
    if "top_log_p" in names or "is_top" in names:
        top = z.argmax(1)
        is_top = (top == at).astype(np.float32)
    if "mean" in names or "variance" in names:
        mean = z.mean(1)
    if "variance" in names:
        distance = z - mean[:, None]
        variance = np.einsum("ij,ij->i", distance, distance) / np.float32(classes)
    if "sum_of_squares" in names:
        squares = np.einsum("ij,ij->i", z, z)
    if curve is not None and needs.of_logits:
        each, slope, _ = curve.function(z, z, curve.constants)
        total = _sums(each, z)
    elif curve is not None:
        p = e / sum_exp[:, None]
        each, by_p, by_log_p = curve.function(p, shifted - log_sum[:, None], curve.constants)
        slope = by_p * p + by_log_p
        total, bend = _sums(each, z), _sums(slope, z)
    value, to_own, to_p, to_lower, to_top, _, to_mean, to_variance, to_squares, to_total = cost.function(
        own, log_p, lower, top_log_p, is_top, mean, variance, squares, total, cost.constants
    )
    if not wanted:
        return value, None

    def spread(of_row: Array) -> Array:
        return of_row[:, None] if of_row.ndim else of_row

    if "lower_log_p" in names:
        to_lower = np.where(lower > -np.inf, to_lower, np.float32(0.0)) * rate
    to_p, to_top, share = to_p * rate, to_top * rate, to_total if needs.of_logits else to_total * rate
    if needs.softmax:
        out = np.multiply(e, (-(to_p + to_lower + to_top + share * bend) / sum_exp * factor)[:, None], out=e)
    else:
        out = np.zeros_like(z)
    if "total" in names:
        out += slope * spread(share * factor)
    if "sum_of_squares" in names:
        out += z * spread(2 * to_squares * factor)
    if "variance" in names:
        out += distance * spread(np.float32(2 / classes) * to_variance * factor)
    if "mean" in names:
        out += spread(np.float32(1 / classes) * to_mean * factor)
    out[row, at] += (to_own + to_p) * factor
    if "lower_log_p" in names:
        out[row, lower_place] += to_lower * factor
    if "top_log_p" in names:
        out[row, top] += to_top * factor
    return value, out


def _sums(x: Array, like: Array) -> Array:
    """Of rows; a formula may come down to a constant."""
    return np.broadcast_to(x, like.shape).sum(1)
