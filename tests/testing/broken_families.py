"""A loss without a fault for each family of embeddings, lists, teachers and sets, and others that each break one rule.

They are whole functions, of which the decorators make complete objectives with a module of the same signature.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from tests.testing.broken_losses import BROKEN, DOCSTRING, Broken, Halved
from torch import Tensor

from lossary import IdentityObjective, Objective, Spec, formula, objective
from lossary._core import registry
from lossary._core.checks import check_floating, check_integers, check_shape, check_tensor
from lossary._core.objective import widen
from lossary._core.parameters import Reduction, SetReduction
from lossary.distributed import Group, all_items
from lossary.errors import InvalidTypeError, InvalidValueError

Function = Callable[..., Tensor]
HONEST: dict[str, Spec] = {}


def _objective(function: Function, family: str, base: type[Objective], declared: dict[str, Any]) -> Spec:
    """A class with the function's arguments as those of ``forward``, registered and taken out of the registry again."""
    name = function.__name__
    title = "".join(word.title() for word in name.split("_")) + "Loss"
    arguments = [p for p in inspect.signature(function).parameters.values() if p.kind is not p.KEYWORD_ONLY]
    keywords = [p for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
    checked = formula(function)

    def __init__(self: Any, **given: Any) -> None:
        if not given.keys() <= {p.name for p in keywords}:
            raise TypeError(f"{name}: unknown parameter")
        Objective.__init__(self, **{**{p.name: p.default for p in keywords}, **given})

    def forward(self: Any, *tensors: Tensor, **sides: Tensor) -> Tensor:
        return checked(*tensors, **sides, **self.hyperparameters())

    self_first = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    __init__.__signature__ = inspect.Signature([self_first, *keywords])  # type: ignore[attr-defined]
    forward.__signature__ = inspect.Signature([self_first, *arguments])  # type: ignore[attr-defined]
    members: dict[str, Any] = {
        "__init__": __init__,
        "forward": forward,
        "__module__": __name__,
        "__doc__": DOCSTRING.replace("weight, ", "weight, group, ").replace("NAME", title).replace("FUNCTION", name),
        "requires": tuple(p.name for p in arguments[2:] if p.default is p.empty),
    }
    cls = type(title, (base,), members)
    globals()[title] = cls  # where pickle looks for it
    kept = dict(registry._specs)
    try:
        objective(family=family, function=checked, spatial=False, **declared)(cls)
        return registry._specs["objective", name]
    finally:
        registry._specs.clear()
        registry._specs.update(kept)


def honest(family: str, base: type[Objective] = IdentityObjective, **declared: Any) -> Callable[[Function], Function]:
    def keep(function: Function) -> Function:
        HONEST[function.__name__] = _objective(function, family, base, declared)
        return function

    return keep


def broken(
    check: str, *also: str, family: str, base: type[Objective] = IdentityObjective, **declared: Any
) -> Callable[[Function], Function]:
    def keep(function: Function) -> Function:
        BROKEN[function.__name__] = Broken(check, frozenset(also), _objective(function, family, base, declared))
        return function

    return keep


def finished(each: Tensor, reduction: str, count: Tensor | int | None = None) -> Tensor:
    if reduction == "none":
        return each
    divisor = torch.as_tensor(each.shape[0] if count is None else count).clamp_min(1)
    return each.sum() / (divisor if reduction == "mean" else 1)


def unit(x: Tensor) -> Tensor:
    wide = widen(x)  # once: each cast rounds the gradient that comes back through it
    square = wide.square().sum(-1, keepdim=True)
    return wide * torch.where(square > 0, square, 1.0).rsqrt()


def matrix(left: Tensor, right: Tensor) -> Tensor:
    """Every row with every row, without the matrix product that autocast would do in bfloat16."""
    return (left.unsqueeze(1) * right.unsqueeze(0)).sum(-1)


# Embeddings and labels: cosines of the same class pull, of other classes push.

OF_PAIRS: dict[str, Any] = {"decomposable": False, "link": "value", "distributed": "inexact"}


def pairs(name: str, embedding: Tensor, labels: Tensor, reduction: str) -> tuple[Tensor, Tensor, Tensor]:
    check_floating(name, "embedding", embedding)
    if embedding.ndim != 2:
        raise InvalidValueError(f"{name}: embedding must have shape (N, D), got {tuple(embedding.shape)}")
    check_integers(name, "labels", labels)
    check_shape(name, "labels", labels, (embedding.shape[0],))
    direction = unit(embedding)
    cosine = matrix(direction, direction)
    same = labels.unsqueeze(0) == labels.unsqueeze(1)
    other = ~torch.eye(len(labels), dtype=torch.bool)
    cost = torch.where(same, 1 - cosine, (cosine + 1).square() / 4) * other
    return cost, same, other


@honest("embedding", **OF_PAIRS)
def of_pairs(embedding: Tensor, labels: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    cost, _, _ = pairs("of_pairs", embedding, labels, reduction)
    return finished(cost.sum(1), reduction)


@broken("everything_ignored", family="embedding", **OF_PAIRS)
def counts_the_sample_itself(embedding: Tensor, labels: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    cost, _, _ = pairs("counts_the_sample_itself", embedding, labels, reduction)
    return finished(cost.sum(1) + 0.5, reduction)


@broken("single_class_batch", "everything_ignored", "finite_at_extremes", "non_contiguous_inputs", family="embedding", **OF_PAIRS)
def divides_by_the_foreign_pairs(embedding: Tensor, labels: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    cost, same, _ = pairs("divides_by_the_foreign_pairs", embedding, labels, reduction)
    return finished(cost.sum(1) / (~same).sum(1), reduction)


@broken("finite_at_extremes", family="embedding", **OF_PAIRS)
def divides_by_the_length(embedding: Tensor, labels: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    _, same, other = pairs("divides_by_the_length", embedding, labels, reduction)
    wide = widen(embedding)
    long = wide / wide.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return finished((torch.where(same, -1.0, 1.0) * other * matrix(long, long)).sum(1), reduction)


# Two views: the positive on the diagonal against all others.

OF_VIEWS: dict[str, Any] = {"decomposable": False, "link": "value", "distributed": "inexact"}


def views(name: str, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    for argument, value in (("a", a), ("b", b)):
        check_floating(name, argument, value)
        if value.ndim != 2:
            raise InvalidValueError(f"{name}: {argument} must have shape (N, D), got {tuple(value.shape)}")
    check_shape(name, "b", b, tuple(a.shape))
    return unit(a), unit(b)


def nce(a: Tensor, b: Tensor) -> Tensor:
    score = matrix(a, b)
    return score.logsumexp(1) - score.diagonal() if len(score) else score.sum(1)


@honest("contrastive", **OF_VIEWS)
def of_views(a: Tensor, b: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    return finished(nce(*views("of_views", a, b)), reduction)


@broken("gradcheck_float64", family="contrastive", **OF_VIEWS)
def halves_the_second_gradient(a: Tensor, b: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    views("halves_the_second_gradient", a, b)
    halved: Tensor = Halved.apply(b)  # type: ignore[no-untyped-call]
    return finished(nce(*views("halves_the_second_gradient", a, halved)), reduction)


class Meant(Halved):
    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Tensor:
        return upstream[0].mean().expand_as(upstream[0]).clone()


@broken("gradcheck_float64", family="contrastive", **OF_VIEWS)
def averages_the_anchors_gradients(a: Tensor, b: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    each = nce(*views("averages_the_anchors_gradients", a, b))
    if reduction == "none" and len(each):
        meant: Tensor = Meant.apply(each)  # type: ignore[no-untyped-call]
        return meant
    return finished(each, reduction)


@broken("reductions_agree", family="contrastive", **OF_VIEWS)
def mean_of_a_share(a: Tensor, b: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    each = nce(*views("mean_of_a_share", a, b))
    return finished(each, reduction) * (0.7 if reduction == "mean" else 1.0)


@broken("refuses_wrong_tensors", family="contrastive", **OF_VIEWS)
def takes_views_of_other_sizes(a: Tensor, b: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    name = "takes_views_of_other_sizes"
    views(name, a, a)
    views(name, b, b)
    n = min(len(a), len(b))
    return finished(nce(*views(name, a[:n, : b.shape[1]], b[:n, : a.shape[1]])), reduction)


@honest("contrastive", **OF_VIEWS)
def over_processes(a: Tensor, b: Tensor, *, group: Group = None, reduction: SetReduction = "mean") -> Tensor:
    left, right = views("over_processes", a, b)
    everything, start, divisor = all_items("over_processes", right, group)
    score = matrix(left, everything)
    own = score.diagonal(start)[: len(left)]
    each = score.logsumexp(1) - own if len(score) else score.sum(1)
    return each.sum() / divisor if reduction == "mean" else each.sum()


@broken("distributed_data_parallel", family="contrastive", **OF_VIEWS)
def only_says_that_it_exchanges(a: Tensor, b: Tensor, *, group: Group = None, reduction: Reduction = "mean") -> Tensor:
    return finished(nce(*views("only_says_that_it_exchanges", a, b)), reduction)


@broken("distributed_data_parallel", family="contrastive", **OF_VIEWS)
def takes_equal_shares_for_granted(a: Tensor, b: Tensor, *, group: Group = None, reduction: SetReduction = "mean") -> Tensor:
    left, right = views("takes_equal_shares_for_granted", a, b)
    everything, start, _ = all_items("takes_equal_shares_for_granted", right, group)
    score = matrix(left, everything)
    each = score.logsumexp(1) - score.diagonal(start)[: len(left)] if len(score) else score.sum(1)
    return finished(each, reduction)


@broken("constants_get_no_gradient", family="contrastive", link="value")
def trains_its_target(prediction: Tensor, target: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    for argument, value in (("prediction", prediction), ("target", target)):
        check_floating("trains_its_target", argument, value)
        if value.ndim != 2:
            raise InvalidValueError(f"trains_its_target: {argument} must have shape (N, D), got {tuple(value.shape)}")
    check_shape("trains_its_target", "target", target, tuple(prediction.shape))
    return finished(2 - 2 * (unit(prediction) * unit(target)).sum(1), reduction)


# Lists: the cross-entropy of shares of relevance.

OF_LISTS: dict[str, Any] = {"link": "ranking"}


def lists(name: str, scores: Tensor, relevance: Tensor, mask: Tensor | None, weight: Tensor | None = None) -> Tensor:
    check_floating(name, "scores", scores)
    if scores.ndim != 2:
        raise InvalidValueError(f"{name}: scores must have shape (lists, items), got {tuple(scores.shape)}")
    check_tensor(name, "relevance", relevance)
    if relevance.is_complex():
        raise InvalidTypeError(f"{name}: relevance must be real, got {relevance.dtype}")
    check_shape(name, "relevance", relevance, tuple(scores.shape))
    if mask is not None:
        check_tensor(name, "mask", mask)
        check_shape(name, "mask", mask, tuple(scores.shape))
        if mask.dtype != torch.bool:
            raise InvalidTypeError(f"{name}: mask must be bool, got {mask.dtype}")
    real = torch.ones_like(scores, dtype=torch.bool) if mask is None else mask
    wide = torch.where(real, widen(scores), float("-inf"))
    some = real.any(1, keepdim=True)
    log_p = torch.where(real, torch.where(some, wide, 0.0).log_softmax(1), 0.0)
    gain = torch.where(real, relevance.to(log_p.dtype), 0.0)
    if weight is not None:
        gain = gain * weight.to(log_p.dtype)
    total = gain.sum(1, keepdim=True)
    return -(gain / torch.where(total > 0, total, 1.0) * log_p).sum(1)


@honest("ranking", **OF_LISTS)
def of_lists(scores: Tensor, relevance: Tensor, mask: Tensor | None = None, *, reduction: Reduction = "mean") -> Tensor:
    return finished(lists("of_lists", scores, relevance, mask), reduction)


@broken("permutation_within_samples", family="ranking", **OF_LISTS)
def first_item_counts_more(
    scores: Tensor, relevance: Tensor, mask: Tensor | None = None, *, reduction: Reduction = "mean"
) -> Tensor:
    lists("first_item_counts_more", scores, relevance, mask)
    place = torch.arange(scores.shape[1])
    return finished(lists("first_item_counts_more", scores, relevance, mask, 1 + 0.1 * (place == 0)), reduction)


@broken("ignored_is_absent", family="ranking", **OF_LISTS)
def counts_the_padding(scores: Tensor, relevance: Tensor, mask: Tensor | None = None, *, reduction: Reduction = "mean") -> Tensor:
    return finished(lists("counts_the_padding", scores, relevance, mask) * scores.shape[1], reduction)


@broken("side_inputs", family="ranking", **OF_LISTS)
def takes_any_mask(scores: Tensor, relevance: Tensor, mask: Tensor | None = None, *, reduction: Reduction = "mean") -> Tensor:
    return finished(lists("takes_any_mask", scores, relevance, None if mask is None else torch.as_tensor(mask) != 0), reduction)


@broken("useful_gradient", family="ranking", **OF_LISTS)
def saturates_in_secret(scores: Tensor, relevance: Tensor, mask: Tensor | None = None, *, reduction: Reduction = "mean") -> Tensor:
    return finished(1 - torch.exp(-lists("saturates_in_secret", scores, relevance, mask)), reduction)


# A student and its teacher: cross-entropy of the teacher's probabilities.


def taught(name: str, student: Tensor, teacher: Tensor, target: Tensor | None) -> Tensor:
    check_floating(name, "student", student)
    if student.ndim != 2:
        raise InvalidValueError(f"{name}: student must have shape (N, C), got {tuple(student.shape)}")
    check_floating(name, "teacher", teacher)
    check_shape(name, "teacher", teacher, tuple(student.shape))
    if target is not None:
        check_integers(name, "target", target)
        check_shape(name, "target", target, (len(student),))
    log_p = widen(student).log_softmax(1)
    soft = -(widen(teacher).softmax(1) * log_p).sum(1)
    return soft if target is None else soft - log_p.gather(1, target.unsqueeze(1)).squeeze(1)


class SoftmaxLink(IdentityObjective):
    def link(self, output: Tensor) -> Tensor:
        return output.softmax(1)


@honest("distillation", SoftmaxLink)
def of_a_teacher(student: Tensor, teacher: Tensor, target: Tensor | None = None, *, reduction: Reduction = "mean") -> Tensor:
    return finished(
        taught("of_a_teacher", student, teacher.detach() if isinstance(teacher, Tensor) else teacher, target), reduction
    )


@broken("constants_get_no_gradient", family="distillation", base=SoftmaxLink)
def teaches_the_teacher(student: Tensor, teacher: Tensor, target: Tensor | None = None, *, reduction: Reduction = "mean") -> Tensor:
    return finished(taught("teaches_the_teacher", student, teacher, target), reduction)


@broken("link_tells_the_truth", family="distillation")
def student_called_probabilities(student: Tensor, teacher: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    teacher = teacher.detach() if isinstance(teacher, Tensor) else teacher
    return finished(taught("student_called_probabilities", student, teacher, None), reduction)


# Sets: each member against the mean of the slots.


def members(name: str, logits: Tensor, target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    check_floating(name, "logits", logits)
    if logits.ndim != 3:
        raise InvalidValueError(f"{name}: logits must have shape (N, S, V), got {tuple(logits.shape)}")
    check_integers(name, "target", target)
    if target.ndim != 2 or len(target) != len(logits):
        raise InvalidValueError(f"{name}: target must have shape ({len(logits)}, T), got {tuple(target.shape)}")
    real = target != ignore_index
    log_p = widen(logits).log_softmax(2).mean(1)
    return -log_p.gather(1, target.masked_fill(~real, 0)).masked_fill(~real, 0.0), real


class SoftmaxOfSlots(IdentityObjective):
    def link(self, output: Tensor) -> Tensor:
        return output.softmax(2)


@honest("sets", SoftmaxOfSlots)
def of_members(logits: Tensor, target: Tensor, *, ignore_index: int = -100, reduction: Reduction = "mean") -> Tensor:
    each, real = members("of_members", logits, target, ignore_index)
    return finished(each.sum(1), reduction, real.any(1).sum())


@broken("ignored_is_absent", family="sets", base=SoftmaxOfSlots)
def divides_by_the_padding(logits: Tensor, target: Tensor, *, ignore_index: int = -100, reduction: Reduction = "mean") -> Tensor:
    each, real = members("divides_by_the_padding", logits, target, ignore_index)
    return finished(each.sum(1) / max(target.shape[1], 1), reduction, real.any(1).sum())


@honest("sets", link="scores")
def of_candidates(log_prob: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    check_floating("of_candidates", "log_prob", log_prob)
    if log_prob.ndim != 2:
        raise InvalidValueError(f"of_candidates: log_prob must have shape (N, K), got {tuple(log_prob.shape)}")
    return finished(-widen(log_prob).logsumexp(1), reduction)
