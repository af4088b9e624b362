"""Losses that each break one rule: what the conformance suite has to catch. None of them stays in the registry.

A body gets the output, the target and all parameters of cross-entropy (or of the objective it is ``like``); the decorator makes
a complete objective of it: function, class, docstring and spec.
"""

import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from lossary import IdentityObjective, Objective, SigmoidObjective, SoftmaxObjective, Spec, formula, objective
from lossary._core import registry
from lossary._core.checks import check_class_inputs, check_element_inputs, check_floating, check_integers, check_shape, check_tensor
from lossary._core.objective import average_over_classes, widen
from lossary._core.parameters import Reduction, SetReduction
from lossary._core.registry import SpecialCase
from lossary.errors import InvalidValueError
from lossary.losses.classification.cross_entropy import cross_entropy
from lossary.losses.classification.focal import focal

Parameters = dict[str, Any]
Body = Callable[[Tensor, Tensor, Parameters], Tensor]

DOCSTRING = r"""A loss that breaks a rule.

.. math:: \ell = 0

Args:
    weight, ignore_index, label_smoothing, reduction: as in :class:`torch.nn.CrossEntropyLoss`.
Shape: logits (N, C, \*); target (N, \*).
Units: nats.
Errors: as usual.
Source: none.

>>> NAME().name
'FUNCTION'
"""


@dataclass(frozen=True)
class Broken:
    """A loss, the check that must catch it, and other checks that it cannot help failing."""

    check: str
    also: frozenset[str]
    spec: Spec


BROKEN: dict[str, Broken] = {}
PLAIN = [p.name for p in inspect.signature(cross_entropy).parameters.values() if p.kind is p.KEYWORD_ONLY]


def broken(
    check: str,
    *also: str,
    base: type[Objective] = SoftmaxObjective,
    family: str = "classification",
    like: Callable[..., Tensor] = cross_entropy,
    sides: tuple[str, ...] = (),
    own: tuple[str, ...] = (),
    checked: bool = True,
    domains: bool = True,
    docstring: str | None = DOCSTRING,
    reordered: bool = False,
    finish: Callable[[Any], None] | None = None,
    extra_repr: Callable[[Any], str] | None = None,
    **declared: Any,
) -> Callable[[Body], Body]:
    def build(body: Body) -> Body:
        name = body.__name__
        title = "".join(word.title() for word in name.split("_")) + "Loss"
        annotated = inspect.signature(inspect.unwrap(like)).parameters.values()
        positional = [p for p in annotated if p.kind is not p.KEYWORD_ONLY]
        keywords = [p for p in annotated if p.kind is p.KEYWORD_ONLY]
        defaults = {p.name: p.default for p in keywords}
        handed = (*sides, *own)

        def function(logits: Tensor, target: Tensor, *held: Tensor, **given: Any) -> Tensor:
            if not given.keys() <= defaults.keys():
                raise TypeError(f"{name}: unknown parameter")
            parameters = {**defaults, **given, **dict(zip(handed, held, strict=True))}
            if checked and like is cross_entropy:
                check_class_inputs(name, logits, target, parameters["weight"])
            return body(logits, target, parameters)

        def forward(self: Any, logits: Tensor, target: Tensor, **given: Tensor) -> Tensor:
            for side in sides:
                if side not in given:
                    raise TypeError(f"forward() missing 1 required positional argument: {side!r}")
            held = [*(given.pop(side) for side in sides), *(getattr(self, each) for each in own)]
            value: Tensor = function(logits, target, *held, **given, **self.hyperparameters())
            return value

        def __init__(self: Any, **given: Any) -> None:
            if not given.keys() <= defaults.keys():
                raise TypeError(f"{name}: unknown parameter")
            Objective.__init__(self, **{**defaults, **given})
            if finish is not None:
                finish(self)

        function.__name__ = name
        extra = [inspect.Parameter(each, inspect.Parameter.POSITIONAL_OR_KEYWORD) for each in handed]
        function.__signature__ = inspect.Signature([*positional, *extra, *keywords])  # type: ignore[attr-defined]
        self_first = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        shown = keywords[::-1] if reordered else keywords
        __init__.__signature__ = inspect.Signature([self_first, *shown])  # type: ignore[attr-defined]
        text = docstring.replace("NAME", title).replace("FUNCTION", name) if docstring else None
        members: dict[str, Any] = {"__init__": __init__, "__doc__": text, "__module__": __name__}
        if extra_repr is not None:
            members["extra_repr"] = extra_repr
        if handed:
            shape = [self_first, *positional, *extra[: len(sides)]]
            forward.__signature__ = inspect.Signature(shape)  # type: ignore[attr-defined]
            members |= {"forward": forward, "requires": sides}
        cls = type(title, (base,), members)
        globals()[title] = cls  # where pickle looks for it
        kept = dict(registry._specs)
        try:
            objective(family=family, function=formula(function) if domains else function, **declared)(cls)
            spec = registry._specs["objective", name]
        finally:
            registry._specs.clear()
            registry._specs.update(kept)
        BROKEN[name] = Broken(check, frozenset(also), spec)
        return body

    return build


def honest(logits: Tensor, target: Tensor, parameters: Parameters, **changed: Any) -> Tensor:
    return cross_entropy(logits, target, **{name: value for name, value in {**parameters, **changed}.items() if name in PLAIN})


def finished(per_sample: Tensor, parameters: Parameters) -> Tensor:
    """A reduction for bodies that use neither weights nor ignored targets in a way that matters."""
    if parameters["reduction"] == "none":
        return per_sample
    return per_sample.sum() if parameters["reduction"] == "sum" else per_sample.sum() / max(per_sample.numel(), 1)


class _Straight(torch.autograd.Function):
    """The identity, with a gradient that a subclass gets wrong."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        return None


class Halved(_Straight):
    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Tensor:
        return upstream[0] / 2


class Averaged(_Straight):
    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Tensor:
        return upstream[0].mean().expand_as(upstream[0]).clone()


class TimesItsSize(_Straight):
    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Tensor:
        return upstream[0] * upstream[0].shape[0]


@broken("function_is_module", proper=True, reordered=True)
def other_signature(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    return honest(logits, target, p)


@broken("reductions_agree", proper=True)
def soft_mean_divides_by_weights(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    value = honest(logits, target, p)
    if p["reduction"] == "mean" and p["weight"] is not None and target.is_floating_point():
        return cast("Tensor", value / p["weight"].mean())
    return value


@broken("one_hot_is_index", "declared_properties", "smoothing_is_a_soft_target", proper=True)
def soft_targets_cost_more(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    return honest(logits, target, p) * (1.1 if target.is_floating_point() else 1.0)


@broken("ignored_is_absent", proper=True)
def mean_counts_ignored(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    value = honest(logits, target, p)
    if p["reduction"] == "mean" and not target.is_floating_point():
        return cast("Tensor", value * (target != p["ignore_index"]).sum() / max(target.numel(), 1))
    return value


@broken("weight_of_two_is_listed_twice", proper=True)
def root_of_the_weight(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    weight = p["weight"]
    if weight is None:
        return honest(logits, target, p)
    each = honest(logits, target, p, weight=weight.to(torch.float64).sqrt(), reduction="none")
    if p["reduction"] != "mean":
        return finished(each, p)
    if target.is_floating_point():
        return each.mean()
    ignored = target == p["ignore_index"]
    mass = weight.to(each.dtype)[target.masked_fill(ignored, 0)].masked_fill(ignored, 0.0).sum()
    return each.sum() / torch.where(mass == 0, torch.ones_like(mass), mass)


@broken("smoothing_is_a_soft_target", proper=True)
def smooths_over_the_other_classes(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    return honest(logits, target, p, label_smoothing=p["label_smoothing"] * 0.9)


@broken(
    "permutation_of_the_batch",
    *("ignored_is_absent", "weight_of_two_is_listed_twice", "duplicated_batch", "upstream_gradients"),
    *("accumulation_over_micro_batches", "declared_properties", "distributed_data_parallel", "reductions_agree"),
    proper=True,
)
def first_sample_counts_twice(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    each = honest(logits, target, p, reduction="none")
    return finished(torch.cat([2 * each[:1], each[1:]]), p)


@broken(
    "duplicated_batch",
    *("ignored_is_absent", "weight_of_two_is_listed_twice", "upstream_gradients"),
    *("accumulation_over_micro_batches", "declared_properties", "distributed_data_parallel"),
    proper=True,
)
def grows_with_the_batch(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    return honest(logits, target, p) * (1 + 0.01 * logits.shape[0])


@broken(
    "accumulation_over_micro_batches",
    *("ignored_is_absent", "weight_of_two_is_listed_twice", "upstream_gradients"),
    *("gradcheck_float64", "half_precision_accuracy", "distributed_data_parallel"),
    proper=True,
)
def gradient_grows_with_the_batch(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    scaled: Tensor = TimesItsSize.apply(logits)  # type: ignore[no-untyped-call]
    return honest(scaled, target, p)


@broken("special_cases", proper=True, special_cases=[SpecialCase({"label_smoothing": 0.5}, "cross_entropy")])
def false_identity(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    return honest(logits, target, p)


@broken("upstream_gradients", "gradcheck_float64", proper=True)
def averages_upstream_gradients(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    value = honest(logits, target, p)
    if p["reduction"] != "none" or value.numel() == 0:
        return value
    averaged: Tensor = Averaged.apply(value)  # type: ignore[no-untyped-call]
    return averaged


@broken("gradcheck_float64", proper=True)
def half_the_gradient(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    halved: Tensor = Halved.apply(logits)  # type: ignore[no-untyped-call]
    return honest(halved, target, p)


@broken("gradcheck_float64", proper=True, exact_gradient_with={"label_smoothing": 0.0})
def exact_all_along(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    return honest(logits, target, p)


@broken("minimum_at_the_target", proper=True)
def focal_called_proper(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    return focal(logits, target, **p)


@broken("minimum_at_the_target")
def proper_in_secret(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    return honest(logits, target, p)


@broken("useful_gradient", proper=True)
def clamped_probabilities(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    return honest(widen(logits).softmax(1).clamp_min(1e-8).log(), target, p)


@broken("useful_gradient", proper=True, saturates=True)
def saturates_in_name_only(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    return honest(logits, target, p)


@broken("finite_at_extremes", "useful_gradient", proper=True)
def logarithm_of_the_softmax(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    return average_over_classes(-widen(logits).softmax(1).log(), target, **p)


@broken("half_precision_accuracy", proper=True)
def computes_in_half(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    return honest(logits.log_softmax(1), target, p)


@broken("half_precision_maps", proper=True)
def sum_ends_at_65504(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    value = honest(logits, target, p)
    return value.clamp_max(65504) if p["reduction"] == "sum" else value


@broken("empty_batch", proper=True)
def nothing_over_nothing(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    count = torch.tensor(float(logits.shape[0]), dtype=torch.float32)
    return honest(logits, target, p) * (count / count)


@broken("everything_ignored", "empty_batch", proper=True)
def mean_of_nothing_is_nan(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    value = honest(logits, target, p)
    if p["reduction"] == "mean" and not target.is_floating_point():
        count = (target != p["ignore_index"]).sum().to(value.dtype)
        return cast("Tensor", value * (count / count))
    return value


@broken(
    "single_class_batch",
    *("upstream_gradients", "useful_gradient", "declared_properties", "empty_batch", "everything_ignored"),
    *("accumulation_over_micro_batches", "minimum_at_the_target", "single_class_dimension", "non_contiguous_inputs"),
    proper=True,
)
def divides_by_the_spread_of_targets(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    spread = target.to(torch.float64).std(0, correction=0).sum()
    value = honest(logits, target, p)
    return value * (spread / spread).to(value.dtype)


@broken("single_class_dimension", proper=True)
def divides_by_the_other_classes(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    others = torch.tensor(float(logits.shape[1] - 1), dtype=torch.float32)
    return honest(logits, target, p) * (others / others)


@broken("non_contiguous_inputs", proper=True)
def views_its_input(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    return honest(logits.view(-1).view(logits.shape), target, p)


@broken("refuses_wrong_tensors", proper=True, checked=False)
def refuses_in_another_name(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    return honest(logits, target, p)


@broken("refuses_wrong_parameters", proper=True, domains=False)
def takes_any_parameter(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    return (
        honest(logits, target, p, label_smoothing=min(p["label_smoothing"], 1.0))
        if p["label_smoothing"]
        else honest(logits, target, p)
    )


@broken("dtype_and_device_kept", proper=True)
def stays_in_half(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    value = honest(logits, target, p)
    return value.bfloat16() if logits.dtype == torch.bfloat16 else value


@broken("link_tells_the_truth", base=SigmoidObjective)
def scores_called_probabilities(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    return honest(logits, target, p)


@broken("link_tells_the_truth", proper=True, link="scores")
def probabilities_called_scores(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    return honest(logits, target, p)


@broken("link_tells_the_truth", base=IdentityObjective)
def logits_called_probabilities(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    return focal(logits, target, **p)


@broken("docstring_is_complete", proper=True, docstring=None)
def undocumented(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    return honest(logits, target, p)


@broken("docstring_is_complete", proper=True, docstring=DOCSTRING.replace("'FUNCTION'", "'another answer'"))
def example_is_wrong(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    return honest(logits, target, p)


@broken("declared_properties", proper=True, soft_targets=False)
def soft_targets_in_secret(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    return honest(logits, target, p)


@broken("declared_properties", "one_hot_is_index", "smoothing_is_a_soft_target", proper=True)
def mixes_inside_the_logarithm(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    if not target.is_floating_point() or p["weight"] is not None:
        return honest(logits, target, p)
    q = target.to(widen(logits).dtype) * (1 - p["label_smoothing"]) + p["label_smoothing"] / logits.shape[1]
    return finished(-(widen(logits).log_softmax(1) + q.log()).logsumexp(1), p)


@broken("declared_properties", proper=True, waivers={"no_such_check": "there is a reason"})
def waives_what_is_not_checked(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    return honest(logits, target, p)


def _forget_the_weight(self: Any) -> None:
    weight = self._buffers.pop("weight")
    self.weight = weight


@broken("state_dict_round_trip", proper=True, finish=_forget_the_weight)
def weight_is_no_buffer(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    return honest(logits, target, p)


def _keep_a_lambda(self: Any) -> None:
    self.shortcut = lambda: None


@broken("pickle_and_copy_round_trips", proper=True, finish=_keep_a_lambda)
def holds_a_lambda(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    return honest(logits, target, p)


@broken("repr_shows_parameters", proper=True, extra_repr=lambda self: "")
def shows_nothing(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    return honest(logits, target, p)


@broken("leaves_no_trace", "maps_over_models", proper=True)
def draws_a_random_number(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    return honest(logits, target, p) + 0 * torch.rand(())


@broken(
    "leaves_no_trace",
    *("single_class_batch", "non_contiguous_inputs"),
    proper=True,
)
def overwrites_ignored_targets(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    value = honest(logits, target.clone(), p)  # which the gradient still needs
    if not target.is_floating_point():
        target.masked_fill_(target == p["ignore_index"], 0)
    return value


@broken("compiles_whole", proper=True)
def breaks_the_graph(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    torch._dynamo.graph_break()
    return honest(logits, target, p)


@broken("compiles_whole", proper=True, compile=False)
def compiles_in_secret(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    return honest(logits, target, p)


@broken("maps_over_models", proper=True)
def fills_a_fresh_tensor(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    value = honest(logits, target, p)
    kept = torch.zeros(value.shape, dtype=value.dtype)
    kept += value
    return kept


@broken("maps_over_models", proper=True, vmap=False)
def maps_in_secret(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    return honest(logits, target, p)


@broken("autocast_changes_nothing", proper=True)
def multiplies_matrices(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    if logits.ndim == 2:
        logits = logits @ torch.eye(logits.shape[1], dtype=logits.dtype)
    return honest(logits, target, p)


def _of_the_batch(logits: Tensor, target: Tensor, *, reduction: SetReduction = "mean") -> Tensor:
    raise NotImplementedError  # only its signature is read


@broken("distributed_data_parallel", like=_of_the_batch, decomposable=False)
def set_loss_called_exact(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    check_class_inputs("set_loss_called_exact", logits, target, None)
    value = honest(logits, target, p)
    return value + 0.01 * value.square()


@broken("distributed_data_parallel", proper=True, distributed="inexact")
def exact_called_inexact(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    return honest(logits, target, p)


@broken("distributed_data_parallel", proper=True)
def fails_when_distributed(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    if torch.distributed.is_initialized():
        raise RuntimeError("no network here")
    return honest(logits, target, p)


@broken("distributed_data_parallel", proper=True)
def hangs_when_distributed(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    if torch.distributed.is_initialized():
        time.sleep(600)
    return honest(logits, target, p)


def _checked_group(name: str, logits: Tensor, group: Tensor) -> Tensor:
    check_integers(name, "group", group)
    check_shape(name, "group", group, (logits.shape[0],))
    return group


@broken("side_inputs", proper=True, sides=("group",))
def never_reads_its_groups(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    _checked_group("never_reads_its_groups", logits, p["group"])
    return honest(logits, target, p)


@broken("side_inputs", sides=("group",), spatial=False)
def takes_groups_of_any_dtype(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    name = "takes_groups_of_any_dtype"
    check_tensor(name, "group", p["group"])
    check_shape(name, "group", p["group"], (logits.shape[0],))
    return honest(widen(logits) * (2 + p["group"].to(widen(logits).dtype)).unsqueeze(1), target, p)


def _scale(self: Any) -> None:
    self.scale = torch.nn.Parameter(torch.rand(()) + 2)


@broken("own_parameters", "distributed_data_parallel", own=("scale",), finish=_scale)
def never_trains_its_scale(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    return honest(widen(logits) * p["scale"].detach().to(widen(logits).dtype), target, p)


@broken("own_parameters", own=("scale",), finish=_scale)
def trains_its_scale_half_as_fast(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    halved: Tensor = Halved.apply(p["scale"])  # type: ignore[no-untyped-call]
    return honest(widen(logits) * halved.to(widen(logits).dtype), target, p)


@broken("declared_properties", proper=True, stochastic=True)
def calm_called_stochastic(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    return honest(logits, target, p)


@broken("declared_properties", proper=True, spatial=False)
def spatial_in_secret(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    return honest(logits, target, p)


@formula
def by_row(logits: Tensor, target: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """A label ranking without a fault: the labels that matter against all of them."""
    name = "mean_over_every_row"
    check_element_inputs(name, logits, target)
    if logits.ndim != 2:
        raise InvalidValueError(f"{name}: logits must have shape (N, L), got {tuple(logits.shape)}")
    log_p = torch.where(target > 0, widen(logits).log_softmax(1), 0.0)
    each = -log_p.sum(1) / (target > 0).sum(1).clamp_min(1)
    if reduction == "mean":
        return each.sum() / (target > 0).any(1).sum().clamp_min(1)
    return each if reduction == "none" else each.sum()


@broken("ignored_is_absent", family="label_ranking", like=by_row, base=IdentityObjective, link="ranking", spatial=False)
def mean_over_every_row(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    value = by_row(logits, target, **p)
    return value * (target > 0).any(1).to(value.dtype).mean() if p["reduction"] == "mean" and logits.shape[0] else value


@broken("permutation_within_samples", family="label_ranking", like=by_row, base=IdentityObjective, link="ranking", spatial=False)
def first_label_counts_more(logits: Tensor, target: Tensor, p: Parameters) -> Tensor:
    check_element_inputs("first_label_counts_more", logits, target)
    if logits.is_floating_point() and logits.ndim == 2:
        logits = widen(logits) * (1 + 0.1 * (torch.arange(logits.shape[1]) == 0))
    return by_row(logits, target, **p)


def by_bag(prediction: Tensor, target: Tensor, bag: Tensor, *, reduction: SetReduction = "mean") -> Tensor:
    """A loss of bags without a fault: squares of the mean of each bag against its target."""
    name = "counts_bags_without_samples"
    check_floating(name, "prediction", prediction)
    check_tensor(name, "target", target)
    check_integers(name, "bag", bag)
    if prediction.ndim != 1 or target.ndim != 1 or target.is_complex():
        wrong = "prediction" if prediction.ndim != 1 else "target"
        raise InvalidValueError(f"{name}: {wrong} must be real and one-dimensional, got {prediction.ndim} and {target.ndim}")
    check_shape(name, "bag", bag, tuple(prediction.shape))
    wide = widen(prediction)
    one_hot = (bag.unsqueeze(1) == torch.arange(target.shape[0])).to(wide.dtype)
    size = one_hot.sum(0)
    off = (wide.unsqueeze(1) * one_hot).sum(0) / size.clamp_min(1) - target.to(wide.dtype)
    square = torch.where(size > 0, off.square(), 0.0)
    return square.sum() / (size > 0).sum().clamp_min(1) if reduction == "mean" else square.sum()


def _plain_bag(prediction: Tensor, target: Tensor, *, reduction: SetReduction = "mean") -> Tensor:
    raise NotImplementedError  # only its signature is read


@broken(
    "ignored_is_absent",
    family="bags",
    like=_plain_bag,
    sides=("bag",),
    base=IdentityObjective,
    link="value",
    spatial=False,
    decomposable=False,
    distributed="inexact",
)
def counts_bags_without_samples(prediction: Tensor, target: Tensor, p: Parameters) -> Tensor:
    value = by_bag(prediction, target, p["bag"], reduction=p["reduction"])
    return value / (1 + target.shape[0]) if p["reduction"] == "mean" else value
