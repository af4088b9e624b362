"""What a formula may ask of a row of logits, and the plain operations that find it: see :mod:`lossary._fast.classes.rule`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lossary._fast.dispatch import can_look


@dataclass(frozen=True)
class Rows:
    """What a formula may ask of each row: numbers of class c, and of the row as a whole.

    Of class c: ``logits`` (its own logit), ``log_p`` and ``lower_log_p``, the largest log-probability strictly below that of c
    (-inf if there is none), and ``is_top``, 1 if c is the class with the largest logit, else 0. Of the row: ``top_log_p``, the
    largest log-probability, ``mean``, ``variance``, ``sum_of_squares`` of its logits, ``total``, the sum of a function of its
    probabilities or logits, and ``classes``, how many there are. A class masked by -inf is not there: it is in none of these.
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
NUMBERS = ("logits", "log_p", "lower_log_p", "top_log_p", "is_top", "mean", "variance", "sum_of_squares", "total", "classes")

FEW = 1 << 12  # logits
NARROW = 32  # classes, below which the library's softmax of many rows is slow


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
    def of_all_classes(self) -> bool:
        """Whether a number adds something up over the classes in a way that -inf spoils; the softmax leaves it out by itself."""
        return bool({"mean", "variance", "sum_of_squares", "total", "classes"} & {*self.names})

    @property
    def closed_form(self) -> bool:
        return not {"total", "top_log_p", "is_top"} & {*self.names}

    @property
    def layout(self) -> tuple[str, ...]:
        """The needed numbers, and what their gradient is made of."""
        state = ("largest", "log_sum") if self.softmax and self.closed_form else ()
        centre = ("mean",) if "variance" in self.names and "mean" not in self.names and self.closed_form else ()
        return (*self.names, *centre, *state)


def with_weight(per_sample: Tensor, at: Tensor, weight: Tensor | None) -> Tensor:
    return per_sample if weight is None else per_sample * weight[at]


def without(z: Tensor, left_out: Tensor | None) -> Tensor:
    """(N, C, S) with other logits for the samples (N, S) that are left out: they may be anything, and 0 times NaN would be NaN in
    their gradient. The others differ from each other, as a formula may divide by their deviation."""
    if left_out is None:
        return z
    harmless = torch.ones_like(z).cumsum(1) * (2.0 / z.shape[1]) - 1.0  # made from z, as a DTensor meets no other tensors
    return torch.where(left_out.unsqueeze(1), harmless, z)


def masked_classes(z: Tensor) -> Tensor | None:
    """The classes (N, C, S) that are masked by -inf, or None where it can be seen that there are none."""
    if can_look(z) and (not z.numel() or bool(z.amin() > -torch.inf)):
        return None
    return z == -torch.inf


def _zero_at(x: Tensor, masked: Tensor | None) -> Tensor:
    return x if masked is None else x.masked_fill(masked, 0.0)


def cost_of_class(z: Tensor, at: Tensor, weight: Tensor | None, label_smoothing: float, if_class: Formula, needs: Needs) -> Tensor:
    """What each row of (N, C, S) costs, from its class (N, S) or its probabilities (N, C, S)."""
    if at.is_floating_point() or label_smoothing:
        return expected(z, at, weight, label_smoothing, if_class, needs)
    return with_weight(if_class(Rows(dict(zip(needs.names, numbers_at(z, at, needs), strict=True)))), at, weight)


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


def _moments(z: Tensor, needs: Needs, masked: Tensor | None) -> dict[str, Tensor]:
    found, there = {}, _zero_at(z, masked)
    if "classes" in needs.names or masked is not None:
        found["classes"] = torch.full_like(z[:, :1].detach(), z.shape[1]) if masked is None else (~masked).sum(1, True).to(z.dtype)
    if "mean" in needs.names or "variance" in needs.names:
        found["mean"] = there.mean(1, keepdim=True) if masked is None else there.sum(1, keepdim=True) / found["classes"]
    if "variance" in needs.names:
        squares = _zero_at(there - found["mean"], masked).square()
        found["variance"] = squares.mean(1, keepdim=True) if masked is None else squares.sum(1, keepdim=True) / found["classes"]
    if "sum_of_squares" in needs.names:
        found["sum_of_squares"] = there.square().sum(1, keepdim=True)
    return found


def _sum_of(total: Callable[[Tensor, Tensor], Tensor], x: Tensor, of_logits: bool, masked: Tensor | None) -> Tensor:
    """The sum of a function of logits, or of probabilities and their logarithms x, over the classes that are not masked."""
    if masked is not None:  # a harmless number for those that are: their slope is 0 times what is made of it
        x = x.masked_fill(masked, -1.0)
    return _zero_at(total(x if of_logits else x.exp(), x), masked).sum(1, keepdim=True)


def numbers_at(z: Tensor, index: Tensor, needs: Needs) -> tuple[Tensor, ...]:
    """The needed numbers with ``index`` (N, S) as class c of each row."""
    at = index.unsqueeze(1)
    masked = masked_classes(z) if needs.of_all_classes else None
    found = _moments(z, needs, masked)
    if "logits" in needs.names:
        found["logits"] = z.gather(1, at)
    if needs.softmax:
        log_p_at, log_p = _log_softmax(less_margin(z, at, needs.margin), needs.temperature)
        found["log_p"] = log_p_at(at)
        if "lower_log_p" in needs.names:
            below = (z.detach() < z.detach().gather(1, at)) & (z.detach() > -torch.inf)
            place = z.detach().masked_fill(~below, -torch.inf).argmax(1, keepdim=True)
            lower = log_p_at(place)
            found["lower_log_p"] = torch.where(below.any(1, keepdim=True), lower, -torch.inf)
        if "top_log_p" in needs.names:
            found["top_log_p"] = log_p_at(z.detach().argmax(1, keepdim=True))
        if needs.total is not None and not needs.of_logits:
            found["total"] = _sum_of(needs.total, log_p(), False, masked)
    if "is_top" in needs.names:
        found["is_top"] = (z.detach().argmax(1, keepdim=True) == at).to(z.dtype)
    if needs.total is not None and needs.of_logits:
        found["total"] = _sum_of(needs.total, z, True, masked)
    return tuple(found[name].squeeze(1) for name in needs.names)


def _rows_of_all(z: Tensor, needs: Needs, masked: Tensor | None, unused: Tensor | None) -> Rows:
    """The needed numbers with every class of (N, C, S) as c, and harmless ones for masked classes that count for nothing."""
    found = {"logits": _zero_at(z, unused), **_moments(z, needs, masked)}
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
            found["total"] = _sum_of(needs.total, found["log_p"], False, masked)
        if unused is not None:
            found["log_p"] = found["log_p"].masked_fill(unused, -1.0)
            if "lower_log_p" in found:
                found["lower_log_p"] = found["lower_log_p"].masked_fill(unused, -1.0)
    if "is_top" in needs.names:
        found["is_top"] = torch.zeros_like(z).scatter(1, z.detach().argmax(1, keepdim=True), 1.0)
    if needs.total is not None and needs.of_logits:
        found["total"] = _sum_of(needs.total, z, True, masked)
    return Rows(found)


def less_margin(z: Tensor, at: Tensor, margin: float) -> Tensor:
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
    place = torch.ones_like(order).cumsum(1) - 1  # made from the order, as a DTensor meets no other tensors
    below_is_less = ascending > ascending.roll(1, 1)  # false at place 0, whose neighbour is the largest
    lower_place = torch.where(below_is_less, place - 1, -1).cummax(1).values  # classes that tie share their neighbour
    at = order.gather(1, lower_place.clamp_min(0))
    exists = (lower_place >= 0) & (z.gather(1, at) > -torch.inf)
    return torch.where(exists, log_p.gather(1, at), -torch.inf).gather(1, order.argsort(1))


def distribution(target: Tensor, z: Tensor, label_smoothing: float, masked: Tensor | None) -> Tensor:
    """The target distribution q (N, C, S) from class indices (N, S) or from probabilities, smoothed over the classes there are."""
    even: Tensor | float = label_smoothing / z.shape[1]
    if masked is not None and label_smoothing:
        there = (~masked).to(z.dtype)
        even = there * (label_smoothing / there.sum(1, keepdim=True).clamp_min(1))
    if target.is_floating_point():
        q = target.to(z.dtype)
        return q * (1 - label_smoothing) + even if label_smoothing else q
    q = torch.zeros_like(z) + even
    return q.scatter_add(1, target.unsqueeze(1), torch.full_like(q[:, :1], 1 - label_smoothing))


def expected(z: Tensor, target: Tensor, weight: Tensor | None, label_smoothing: float, if_class: Formula, needs: Needs) -> Tensor:
    """sum_c q_c w_c l(c) for each row of (N, C, S)."""
    masked = masked_classes(z)
    mass = masses_of_classes(target, z, weight, label_smoothing, masked)
    unused = None if masked is None else masked & (mass == 0)
    return (mass * if_class(_rows_of_all(z, needs, masked, unused))).sum(1)


def masses_of_classes(
    target: Tensor, z: Tensor, weight: Tensor | None, label_smoothing: float, masked: Tensor | None = None
) -> Tensor:
    """q_c w_c of each class."""
    q = distribution(target, z, label_smoothing, masked)
    return q if weight is None else q * weight.view(-1, 1)
