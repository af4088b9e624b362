"""Losses of one class of several at the speed of memory: one read of the logits, one write of their gradient.

A loss here is a small formula l(c) of a few numbers of each row of logits: the logit and the log-probability of class c, and
sums over the row. A hard label costs l of its class; a soft or smoothed target needs l(c) of every class.

On a processor a batch goes through one compiled loop, which makes the numbers of a row, its cost and its gradient while the row
is in the cache (:mod:`lossary._fast.tracing` says how the formula gets into it). On accelerators, in other precisions, for
classes that are not side by side in memory and under ``vmap`` it goes through in blocks of rows; what is small there, and whatever
``torch.compile`` sees, takes the same formula on plain tensor operations, which is also what second derivatives are made of.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from lossary._core.objective import average_over_kept, is_ignored, reduce, widen
from lossary._fast import dispatch, tracing
from lossary._fast.classes.blocks import ExpectedInBlocks, NumbersInBlocks
from lossary._fast.classes.plain import NUMBERS, Formula, Needs, Rows, cost_of_class, masked_classes, with_weight, without
from lossary._fast.one_pass import in_one_pass, with_gradient

__all__ = ["Formula", "Rows", "average_over_rows", "small_and_whole"]

FEW = 1 << 14  # logits up to which PyTorch's own operations, where there is one for all, take less time than a loop
SHORT, MANY = 8, 1 << 13  # classes below which a loop for each row is too much, if there are more logits than so many


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
    if dispatch.take_compiled_loops(logits, target, weight):
        found = _in_one_pass(logits, target, weight, label_smoothing, if_class, wanted, ignore_index, reduction)
        if found is not None:
            return found
    soft = target.is_floating_point()
    ignored = None if soft else is_ignored(target, ignore_index)
    some_ignored = ignored is not None and not (dispatch.can_look(logits, target) and not bool(ignored.any()))
    plain = dispatch.take_plain_operations(logits, target, weight)
    # blocks have no masked classes where these need care
    plain = plain or ((soft or label_smoothing or wanted.of_all_classes) and masked_classes(logits) is not None)
    if plain and not (soft or label_smoothing or some_ignored):
        at = target.long()  # of a small batch it counts how many operations there are
        if wanted.log_p_alone and temperature == 1.0:
            log_p = -cross_entropy(widen(logits), at, reduction="none")
            per_sample = with_weight(if_class(Rows({"log_p": log_p})), at, weight)
        else:
            per_sample = cost_of_class(widen(logits), at, weight, 0.0, if_class, wanted)
        if reduction == "mean" and weight is not None:
            return reduce(per_sample, weight[at].sum(), reduction)
        return reduce(per_sample, per_sample.numel(), reduction)
    side_by_side = _classes_side_by_side(logits)
    rows = _as_rows(logits, side_by_side)
    shape = (logits.shape[0], *logits.shape[2:])
    left_out = ignored.reshape(rows.shape[0], rows.shape[2]) if ignored is not None and some_ignored else None
    if ignored is None:
        at = _as_rows(target, side_by_side)
    else:
        at = target.long().masked_fill(ignored, 0).reshape(rows.shape[0], rows.shape[2])
    if plain:
        per_sample = cost_of_class(without(widen(rows), left_out), at, weight, label_smoothing, if_class, wanted)
    elif soft or label_smoothing:
        per_sample = ExpectedInBlocks.apply(rows, at, weight, label_smoothing, if_class, wanted)[0]  # type: ignore[no-untyped-call]
    else:
        numbers = dict(zip(wanted.layout, NumbersInBlocks.apply(rows, at, wanted)[0], strict=False))  # type: ignore[no-untyped-call]
        if left_out is not None:  # as in without
            numbers = {name: each.masked_fill(left_out, -1.0 if name.endswith("log_p") else 1.0) for name, each in numbers.items()}
        per_sample = with_weight(if_class(Rows(numbers)), at, weight)
    per_sample = per_sample.view(shape)
    if ignored is None:
        return reduce(per_sample, per_sample.numel(), reduction)
    return average_over_kept(per_sample, at.view(shape), ignored, weight, reduction)


def small_and_whole(logits: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int) -> bool:
    """Decides whether PyTorch's own losses do best: a small batch (N, C) on a processor that has samples, all of which count."""
    if not dispatch.take_compiled_loops(logits, target, weight) or logits.numel() > FEW or weight is not None or logits.ndim != 2:
        return False
    return target.dtype is torch.int64 and ignore_index < 0 and bool(target.min().item() >= 0)


def _classes_side_by_side(logits: Tensor) -> bool:
    """Whether the classes of a sample are neighbours in memory, as in channels-last images or (N, T, C) turned round."""
    return logits.ndim > 2 and logits.shape[1] > 1 and logits.movedim(1, -1).is_contiguous()


def _as_rows(x: Tensor, side_by_side: bool) -> Tensor:
    """(N, C, *) as (N, C, S), or as (N * S, C, 1) where the classes lie side by side: a view of memory in either order."""
    if side_by_side:
        return x.movedim(1, -1).reshape(-1, x.shape[1], 1)
    return x.flatten(2) if x.ndim > 2 else x.unsqueeze(2)


# The same in a compiled loop.


class _Loop(NamedTuple):
    run: Any
    constants: tuple[Any, ...]
    constants_of_total: tuple[Any, ...]
    over_rows: Any  # as importing it again at every call would take a microsecond or two
    counted: Any


def _cost_of(if_class: tracing.Known, names: tuple[str, ...]) -> tracing.Scalars | None:
    """The formula as a function of all numbers."""
    formula: Formula = if_class.formula  # type: ignore[assignment]  # one that gives one number

    def of_numbers(*numbers: Tensor) -> Tensor:
        return formula(Rows({name: numbers[NUMBERS.index(name)] for name in names}))

    return tracing.scalars(of_numbers, inputs=len(NUMBERS))


@functools.lru_cache(maxsize=256)
def _loop_of(
    if_class: tracing.Known,
    total: tracing.Known | None,
    names: tuple[str, ...],
    of_logits: bool,
    margined: bool,
    hard: bool,
    plain: bool,
) -> _Loop | None:
    """The compiled loop for a formula, or None if there is none."""
    from lossary._fast import mathematics
    from lossary._fast.classes import loop as classes_loop

    cost = _cost_of(if_class, names)
    curve = None if total is None else tracing.scalars(total.formula, inputs=2)
    if cost is None or (curve is None and total is not None):
        return None
    run = classes_loop.of_rows(cost.text, curve and curve.text, names, of_logits, margined, hard, plain)
    return _Loop(run, cost.constants, curve.constants if curve else (), classes_loop.over_rows, mathematics.counted)


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
            return _maps_in_one_pass(logits, target, weight, label_smoothing, if_class, needs, ignore_index, reduction)
        z = spread.squeeze(2)
    rows, classes = z.shape
    soft = target.is_floating_point()
    hard = not (soft or label_smoothing)
    if (
        not z.is_contiguous()
        or (classes < SHORT and rows * classes > MANY)
        or (needs.margin and {*needs.names} - {"classes"} != {"log_p"})
    ):
        return None
    if soft:
        at = _as_rows(target, side_by_side).squeeze(2).contiguous()
        at = at.float() if at.dtype in (torch.float16, torch.bfloat16) else at
    elif target.ndim > 1 or target.dtype != torch.int64 or not target.is_contiguous():
        at = target.reshape(-1).long()
    formula, total = tracing.Known(if_class), None if needs.total is None else tracing.Known(needs.total)
    plain_masses = soft and not label_smoothing and weight is None and at.dtype == torch.float32
    loop = tracing.ask(_loop_of, z.numel(), formula, total, needs.names, needs.of_logits, needs.margin != 0, hard, plain_masses)
    if loop is None:
        return None
    weight = None if weight is None else weight.contiguous()
    kept: float = rows if soft else loop.counted(at.numpy(), classes, ignore_index, None if weight is None else weight.numpy())
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

    def compute(wanted: bool, z: Tensor, at: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor | None]:
        value, gradient = np.empty(rows, np.float32), torch.empty_like(z) if wanted else None
        classes_of, probabilities = (None, at.numpy()) if soft else (at.numpy(), None)
        given = z.detach().numpy(), classes_of, probabilities, None if weight is None else weight.numpy()
        taken = value, None if gradient is None else gradient.numpy()
        total = loop.over_rows(loop.run, given, numbers, taken, "lower_log_p" in needs.names and not hard)
        if not math.isfinite(total) and masked_classes(z.detach()) is not None:
            return with_gradient(plain, z, at, weight)
        return torch.from_numpy(value if reduction == "none" else np.array(total * scale, np.float32)), gradient

    def plain(z: Tensor, at: Tensor, weight: Tensor | None) -> Tensor:
        per_sample = _each(z.unsqueeze(2), at.unsqueeze(-1), weight, label_smoothing, if_class, needs, ignore_index).squeeze(1)
        return per_sample if reduction == "none" else per_sample.sum() * scale

    found: Tensor = in_one_pass(compute, plain, z, at, weight)
    return found if reduction != "none" or logits.ndim == 2 else found.view(logits.shape[0], *logits.shape[2:])


def _each(
    z: Tensor, at: Tensor, weight: Tensor | None, label_smoothing: float, if_class: Formula, needs: Needs, ignore_index: int
) -> Tensor:
    """What each sample (N, S) of (N, C, S) costs in plain operations, 0 where it is ignored."""
    if at.is_floating_point():
        return cost_of_class(z, at, weight, label_smoothing, if_class, needs)
    ignored = is_ignored(at, ignore_index)
    index = at.masked_fill(ignored, 0)
    return cost_of_class(without(z, ignored), index, weight, label_smoothing, if_class, needs).masked_fill(ignored, 0.0)


MAPPED = {"logits", "log_p", "sum_of_squares", "classes"}  # what the loop over maps knows of a pixel


@functools.lru_cache(maxsize=256)
def _map_loop_of(if_class: tracing.Known, names: tuple[str, ...]) -> _Loop | None:
    """The compiled loop over maps for a formula, or None if there is none."""
    from lossary._fast import mathematics
    from lossary._fast.classes import map_loop

    cost = _cost_of(if_class, names)
    if cost is None:
        return None
    return _Loop(map_loop.of_maps(cost.text, names), cost.constants, (), map_loop.over_maps, mathematics.counted)


def _maps_in_one_pass(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None,
    label_smoothing: float,
    if_class: Formula,
    needs: Needs,
    ignore_index: int,
    reduction: str,
) -> Tensor | None:
    """The loss of maps (N, C, *) whose pixels lie side by side, in one compiled loop; None where there is none."""
    hard = not (target.is_floating_point() or label_smoothing)
    if not hard or needs.margin or not {*needs.names} <= MAPPED or not logits.is_contiguous():
        return None
    loop = tracing.ask(_map_loop_of, logits.numel(), tracing.Known(if_class), needs.names)
    if loop is None:
        return None
    z, at = logits.flatten(2), target.flatten(1).long().contiguous()
    weight = None if weight is None else weight.contiguous()
    weights = None if weight is None else weight.numpy()
    kept: float = loop.counted(at.view(-1).numpy(), z.shape[1], ignore_index, weights)
    if kept != kept:  # NaN: a class that does not exist
        return None
    scale = 1.0 / kept if reduction == "mean" and kept else 1.0
    numbers = float(needs.temperature), loop.constants, scale, ignore_index

    def compute(wanted: bool, z: Tensor, at: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor | None]:
        value, gradient = torch.empty(at.shape) if reduction == "none" else None, torch.empty_like(z) if wanted else None
        given, taken = (z.detach(), at, weight), (value, gradient)
        arrays = [[None if x is None else x.numpy() for x in some] for some in (given, taken)]
        total = loop.over_rows(loop.run, *arrays[0], numbers, *arrays[1])
        if not math.isfinite(total) and masked_classes(z.detach()) is not None:
            return with_gradient(plain, z, at, weight)
        return torch.tensor(total * scale, dtype=torch.float32) if value is None else value.unsqueeze(1), gradient

    def plain(z: Tensor, at: Tensor, weight: Tensor | None) -> Tensor:
        per_sample = _each(z, at, weight, 0.0, if_class, needs, ignore_index)
        return per_sample.unsqueeze(1) if reduction == "none" else per_sample.sum() * scale

    found: Tensor = in_one_pass(compute, plain, z, at, weight)
    return found if reduction != "none" else found.view(logits.shape[0], *logits.shape[2:])
