"""Rows of classes in blocks that stay in a core's cache, where no loop is compiled: see :mod:`lossary._fast.classes.rule`."""

from typing import Any

import torch
from torch import Tensor

from lossary._core.objective import widen
from lossary._fast import dispatch
from lossary._fast.classes.plain import (
    Formula,
    Needs,
    Rows,
    distribution,
    expected,
    less_margin,
    masses_of_classes,
    numbers_at,
    without,
)


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


class NumbersInBlocks(torch.autograd.Function):
    """The numbers of each row at its true class (K, N, S), as :attr:`Needs.layout` lists them; and where the lower class is."""

    @staticmethod
    def forward(z: Tensor, index: Tensor, needs: Needs) -> tuple[Tensor, Tensor]:
        dtype = torch.promote_types(z.dtype, torch.float32)
        numbers = z.new_empty(len(needs.layout), z.shape[0], z.shape[2], dtype=dtype)
        lower = torch.empty_like(index) if "lower_log_p" in needs.names else index.new_empty(0)
        work = dispatch.scratch(z, dtype)
        for rows, space in dispatch.of_classes(z):
            block, at = z[rows, :, space].to(dtype), index[rows, None, space]
            if not needs.closed_form:
                numbers[:, rows, space] = torch.stack(numbers_at(block, index[rows, space], needs))
                continue
            found = {}
            if "classes" in needs.names:
                found["classes"] = torch.full_like(block[:, :1], block.shape[1])
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
                block = less_margin(block, at, needs.margin)
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
        unused = _unused(upstream)
        if torch.is_grad_enabled():  # somebody wants to differentiate the gradient
            z = without(z, _spoilt(z, unused))

            def plain(z: Tensor) -> Tensor:
                return torch.stack(numbers_at(widen(z), index, needs))

            pull = torch.func.vjp(plain, z)[1]
            return pull(upstream[: len(needs.names)])[0], None, None
        if not needs.closed_form:
            out = torch.empty_like(z)
            for rows, space in dispatch.of_classes(z):
                with torch.enable_grad():
                    kept = without(z[rows, :, space].to(upstream.dtype), None if unused is None else unused[rows, space])
                    leaf = kept.detach().requires_grad_()
                    block = torch.stack(numbers_at(leaf, index[rows, space], needs))
                out[rows, :, space] = torch.autograd.grad(block, leaf, upstream[:, rows, space])[0]
            return out, None, None
        return _gradient(z, index, numbers, lower, upstream, unused, needs), None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], z: Tensor, index: Tensor, needs: Needs) -> Any:
        z, index = dispatch.mapped_first(z, in_dims[0], info.batch_size), dispatch.mapped_first(index, in_dims[1], info.batch_size)
        numbers, lower = NumbersInBlocks.apply(z.flatten(0, 1), index.flatten(0, 1), needs)  # type: ignore[no-untyped-call]
        lower_dim = 0 if lower.numel() else None
        shape = (info.batch_size, index.shape[1])
        return (numbers.unflatten(1, shape), lower.unflatten(0, shape) if lower.numel() else lower), (1, lower_dim)


def _unused(upstream: Tensor) -> Tensor | None:
    """The samples (N, S) whose numbers (k, N, S) count for nothing, as they are ignored, or None if there are none. They may be
    anything, and 0 times NaN would be NaN in their gradient."""
    unused = (upstream == 0).all(0)
    return None if dispatch.can_look(unused) and not bool(unused.any()) else unused


def _spoilt(z: Tensor, unused: Tensor | None) -> Tensor | None:
    """Those unused samples that would give NaN. Where others count for nothing yet, the slope of their gradient is wanted."""
    return None if unused is None else unused & ~z.isfinite().all(1)


def _gradient(
    z: Tensor, index: Tensor, numbers: Tensor, lower: Tensor, upstream: Tensor, unused: Tensor | None, needs: Needs
) -> Tensor:
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
    for rows, space in dispatch.of_classes(z):
        block, place = z[rows, :, space].to(numbers.dtype), out[rows, :, space]

        def spread(per_row: Tensor, rows: slice = rows, space: slice = space) -> Tensor:
            return per_row[rows, None, space]

        target = place if place.dtype == numbers.dtype else torch.empty_like(block)
        if needs.softmax:
            shifted = torch.sub(less_margin(block, spread(index), needs.margin), spread(number["largest"]), out=target)
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
        if unused is not None:
            target.masked_fill_(spread(unused), 0.0)
        if target is not place:
            place.copy_(target)
    return out


class ExpectedInBlocks(torch.autograd.Function):
    """:func:`expected` block by block, with the largest logit and the logarithm of the sum of each row (2, N, S).

    Where the formula looks at ``log_p`` alone, the softmax is differentiated in closed form and only the formula by its operations;
    else all of the block's operations are.
    """

    @staticmethod
    def forward(
        z: Tensor, target: Tensor, weight: Tensor | None, label_smoothing: float, if_class: Formula, needs: Needs
    ) -> tuple[Tensor, Tensor]:
        value = z.new_empty(z.shape[0], z.shape[2], dtype=torch.promote_types(z.dtype, torch.float32))
        state = value.new_empty(2, *value.shape) if needs.log_p_alone else value.new_empty(0)
        for rows, space in dispatch.of_classes(z):
            block, part = z[rows, :, space].to(value.dtype), target[rows, ..., space]
            if not needs.log_p_alone:
                value[rows, space] = expected(block, part, weight, label_smoothing, if_class, needs)
                continue
            largest = block.amax(1, keepdim=True)
            shifted = block - largest
            if needs.temperature != 1.0:
                shifted.div_(needs.temperature)
            log_sum = shifted.exp().sum(1, keepdim=True).log_()
            each = if_class(Rows({"log_p": shifted.sub_(log_sum)}))
            value[rows, space] = (each * masses_of_classes(part, block, weight, label_smoothing)).sum(1)
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
        unused = _unused(upstream.unsqueeze(0))
        if torch.is_grad_enabled():  # somebody wants to differentiate the gradient
            z = without(z, _spoilt(z, unused))
            pull = torch.func.vjp(lambda z: expected(widen(z), target, weight, label_smoothing, if_class, needs), z)[1]
            return (pull(upstream)[0], *[None] * 5)
        out = torch.empty_like(z)
        for rows, space in dispatch.of_classes(z):
            block, part, to_value = z[rows, :, space].to(upstream.dtype), target[rows, ..., space], upstream[rows, None, space]
            if not needs.log_p_alone:
                with torch.enable_grad():
                    leaf = without(block, None if unused is None else unused[rows, space]).detach().requires_grad_()
                    value = expected(leaf, part, weight, label_smoothing, if_class, needs)
                out[rows, :, space] = torch.autograd.grad(value, leaf, to_value.squeeze(1))[0]
                continue
            log_p = block - state[0, rows, None, space]
            if needs.temperature != 1.0:
                log_p.div_(needs.temperature)
            log_p.sub_(state[1, rows, None, space])
            mass = masses_of_classes(part, block, weight, label_smoothing) * (to_value / needs.temperature)
            with torch.enable_grad():
                each = if_class(Rows({"log_p": log_p.requires_grad_()}))
            (slope,) = torch.autograd.grad(each, log_p, mass)
            p = log_p.detach().exp_()
            torch.sub(slope, p.mul_(slope.sum(1, keepdim=True)), out=p)
            if unused is not None:
                p.masked_fill_(unused[rows, None, space], 0.0)
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
        z, target = (
            dispatch.mapped_first(z, in_dims[0], info.batch_size),
            dispatch.mapped_first(target, in_dims[1], info.batch_size),
        )
        if weight is not None and in_dims[2] is not None:  # every run has weights of its own: they go into the target
            own = dispatch.mapped_first(weight, in_dims[2], info.batch_size)
            classes = own.flatten(1)[:, None, :, None]
            target = (
                torch.stack([distribution(t, x, label_smoothing, None) for t, x in zip(target, widen(z), strict=True)]) * classes
            )
            weight, label_smoothing = None, 0.0
        inputs = (z.flatten(0, 1), target.flatten(0, 1), weight, label_smoothing, if_class, needs)
        value, state = ExpectedInBlocks.apply(*inputs)  # type: ignore[no-untyped-call]
        shape = (info.batch_size, z.shape[1])
        if not needs.log_p_alone:
            return (value.unflatten(0, shape), state), (0, None)
        return (value.unflatten(0, shape), state.unflatten(1, shape)), (0, 1)
