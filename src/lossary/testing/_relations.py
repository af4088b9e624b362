"""Identities between values: what a loss must return given what it returned elsewhere."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lossary._core.parameters import domains
from lossary.testing._batch import inputs_of
from lossary.testing._subject import (
    Batch,
    Failed,
    NotApplicable,
    Subject,
    agree,
    call,
    complaint,
    gradients_of,
    keywords_of,
    same,
    side_by_side,
    value_and_gradient,
)


def settings(subject: Subject) -> list[dict[str, Any]]:
    """The default, and each common parameter away from its default."""
    found: list[dict[str, Any]] = [{}]
    if subject.takes("weight"):
        found.append({"weight": subject.inputs.class_weight()} if subject.inputs.by_class else {"weight": _spread(subject)})
    if subject.takes("pos_weight"):
        found.append({"pos_weight": subject.inputs.class_weight(1)})
    if subject.takes("label_smoothing"):
        found.append({"label_smoothing": 0.2})
    return found


def _spread(subject: Subject, n: int = 6) -> Tensor:
    """A weight for each element of a batch of n."""
    return torch.rand(n, subject.inputs.classes, generator=torch.Generator().manual_seed(5), dtype=torch.float64) + 0.5


def function_is_module(subject: Subject) -> str:
    """The pure function and the module have the same parameters, defaults and values.

    A class may have parameters beyond those of the function where the function is handed what they size (weights, a memory), or
    where they say what to make of an input that the function does not take (how far the training is).
    """
    spec = subject.need_spec("only a registered objective has a pure function beside its module")
    of_function = {name: p for name, p in keywords_of(spec.function).items() if p.kind is inspect.Parameter.KEYWORD_ONLY}
    of_class = keywords_of(spec.cls)
    taken = set(keywords_of(spec.function))
    beyond = set(subject.batch(2, kind=subject.kinds[-1]).sides) - taken
    handed = len(taken) - len(of_function) > subject.batch(2).positional
    shared = [name for name in of_class if name in of_function] if handed or beyond else list(of_class)
    if list(of_function) != shared:
        raise Failed(f"the function takes {', '.join(of_function)}; the class takes {', '.join(of_class)}")
    in_function, in_class = domains(spec.function), domains(spec.cls)
    for name, parameter in of_function.items():
        if parameter.default != of_class[name].default:
            raise Failed(f"{name} is {parameter.default!r} by default in the function and {of_class[name].default!r} in the class")
        if in_function.get(name) != in_class.get(name):
            raise Failed(f"{name} is annotated differently in the function and in the class")
    compared = 0
    for kind in subject.kinds:
        for setting in settings(subject):
            for reduction in reductions(subject):
                parameters = {**setting, **reduction}
                loss = subject.make(**parameters)
                batch = subject.batch(6, kind=kind, loss=loss)
                if beyond & set(batch.sides):
                    continue
                by_function = subject.by_function(batch, **parameters)
                agree(f"module against function with {parameters_said(parameters)}, {kind}", call(loss, batch), by_function)
                compared += 1
    return f"{len(of_function)} parameters, {compared} settings"


def parameters_said(parameters: Mapping[str, object]) -> str:
    shown = (f"{name}={'a tensor' if isinstance(value, Tensor) else value}" for name, value in parameters.items())
    return ", ".join(shown) or "defaults"


def reductions(subject: Subject) -> list[dict[str, Any]]:
    """Each reduction that there is, as parameters to build the loss with."""
    if not subject.takes("reduction"):
        return [{}]
    return [{"reduction": word} for word in (("mean", "sum", "none") if subject.itemised else ("mean", "sum"))]


def reductions_agree(subject: Subject) -> str:
    """``none`` has a value for each item, ``sum`` adds them up, and ``mean`` divides by what the rule for means says."""
    subject.need("reduction")
    if not subject.itemised:
        subject.need_spec("it may reduce as it likes")
        try:
            loss = subject.make(reduction="none")
            call(loss, subject.batch(6, loss=loss))
        except Exception as error:
            wrong = complaint(subject, error, "reduction")
            if wrong:
                raise Failed(f"reduction='none': {wrong}") from error
            return "a function of the batch as a whole: 'none' is refused"
        raise Failed("declared to be a function of the batch as a whole, yet reduction='none' is accepted")
    spaces: list[tuple[int, ...]] = [(), (3,)] if subject.spatial else [()]
    for space in spaces:
        for kind in subject.kinds:
            for setting in settings(subject):
                if space and "weight" in setting and not subject.inputs.by_class:
                    setting = {"weight": setting["weight"].unsqueeze(-1).expand(6, subject.inputs.classes, *space)}
                if space and "pos_weight" in setting:
                    setting = {"pos_weight": setting["pos_weight"].unsqueeze(-1)}
                _reduced(subject, setting, kind, space)
    loss = subject.make()
    if call(loss, subject.batch(6, loss=loss)).ndim:
        raise Failed("the default reduction is not a single number")
    return "none, sum and mean, every kind of batch, with and without weights"


def _reduced(subject: Subject, setting: dict[str, Any], kind: str, space: tuple[int, ...]) -> None:
    loss = subject.make(reduction="none", **setting)
    batch = subject.batch(6, loss=loss, kind=kind, space=space)
    said = f"{kind}, {list(setting) or 'defaults'}"
    each = call(loss, batch)
    if tuple(each.shape) != subject.inputs.per_item(batch):
        raise Failed(f"reduction='none' has shape {tuple(each.shape)} instead of {subject.inputs.per_item(batch)}")
    agree(f"sum ({said})", call(subject.make(reduction="sum", **setting), batch), each.sum())
    mean = call(subject.make(reduction="mean", **setting), batch)
    divisor = subject.inputs.divisor(batch, setting.get("weight", subject.given.get("weight")))
    if divisor is None:  # the number of items that count, which is the objective's own affair
        most = max((value.numel() for value in batch.tensors.values() if value.ndim <= 2), default=len(batch.output))
        most = most if subject.decomposable else max(most, len(batch.output) ** 3)  # pairs or triplets of the batch
        ratio = float(each.detach().sum() / mean.detach()) if bool(mean) else 1.0
        divisor = torch.tensor(float(min(max(round(ratio), 1), most)), dtype=torch.float64)
    agree(f"mean ({said})", mean, each.sum() / divisor)


def one_hot_is_index(subject: Subject) -> str:
    """A one-hot distribution is worth the class index, in value and gradient."""
    if subject.family != "classification":
        raise NotApplicable("its targets are not classes")
    if not subject.soft_targets:
        raise NotApplicable("it takes no soft targets")
    for setting in settings(subject):
        loss = subject.summed(**setting) if setting else subject.make()  # with weights, the two means divide by different sums
        batch = subject.batch(6, loss=loss)
        hot = batch.targeted(one_hot(subject, batch.target))
        same(f"one-hot with {list(setting) or 'defaults'}", value_and_gradient(loss, hot), value_and_gradient(loss, batch))
    return "values and gradients"


def one_hot(subject: Subject, target: Tensor) -> Tensor:
    """Class indices (n, *) as probabilities (n, classes, *)."""
    return torch.nn.functional.one_hot(target, subject.inputs.classes).movedim(-1, 1).double()


def ignored_is_absent(subject: Subject) -> str:
    """What does not count changes nothing: ignored samples, rows without a positive label, bags without samples, masked entries."""
    if subject.family == "label_ranking":
        return _rows_without_positives(subject)
    if subject.family == "bags":
        return _bags_without_samples(subject)
    if subject.family == "sets":
        return _padded_sets(subject)
    if subject.family in ("ranking", "contrastive"):
        return _hidden_entries(subject)
    subject.need("ignore_index", "reduction")
    _comparable(subject)
    codes = (-100, 2, 255) if subject.family == "classification" else (-100, -1)
    for code in codes:
        for setting in settings(subject):
            if "weight" in setting and not subject.inputs.by_class:
                continue  # an element's weight goes away with the element: nothing to compare
            for reduction in reductions(subject):
                loss = subject.make(ignore_index=code, **reduction, **setting)
                batch = subject.batch(8, loss=loss)
                target = batch.target.clone()
                target[1::3] = code
                kept = (target != code).flatten(1).all(1) if target.ndim > 1 else target != code
                said = f"ignore_index {code}, {parameters_said(reduction)}, {list(setting) or 'defaults'}"
                _as_if_absent(said, loss, batch.targeted(target), kept)
    return f"codes {', '.join(map(str, codes))}"


def _as_if_absent(said: str, loss: nn.Module, batch: Batch, kept: Tensor) -> None:
    """Fail where samples that are not kept change anything, or get a gradient."""
    value, gradient = value_and_gradient(loss, batch)
    without = value_and_gradient(loss, batch.take(kept))
    if value.ndim:
        agree(f"{said}, ignored values", value[~kept], torch.zeros_like(value[~kept]))
        value = value[kept]
    same(said, (value, gradient[kept]), without)
    agree(f"{said}, gradient of ignored samples", gradient[~kept], torch.zeros_like(gradient[~kept]))


def _comparable(subject: Subject) -> None:
    """Leave a check that calls the loss with other samples, for which it would draw other random numbers."""
    if subject.stochastic:
        raise NotApplicable("it draws random numbers for a batch, and other ones for another batch")


def _rows_without_positives(subject: Subject) -> str:
    for reduction in reductions(subject):
        loss = subject.make(**reduction)
        batch = subject.batch(8, loss=loss)
        target = batch.target.clone()
        target[1::3] = 0
        _as_if_absent(f"rows without positives, {parameters_said(reduction)}", loss, batch.targeted(target), (target > 0).any(1))
    return "rows without positives count neither in the sum nor in the mean"


def _bags_without_samples(subject: Subject) -> str:
    for reduction in reductions(subject):
        loss = subject.make(**reduction)
        batch = subject.batch(8, loss=loss)
        more = batch.targeted(torch.cat([batch.target, batch.target.flip(0)]))
        said = f"bags without samples, {parameters_said(reduction)}"
        same(said, value_and_gradient(loss, more), value_and_gradient(loss, batch))
    return "bags without samples count neither in the sum nor in the mean"


def _padded_sets(subject: Subject) -> str:
    """Padding anywhere in a row of members, and rows of nothing else."""
    subject.need("ignore_index")
    code = -100
    for reduction in reductions(subject):
        loss = subject.make(ignore_index=code, **reduction)
        batch, said = subject.batch(8, loss=loss), parameters_said(reduction)
        padded = torch.cat([batch.target[:, :1], torch.full((8, 1), code), batch.target[:, 1:]], 1)
        same(f"padded, {said}", value_and_gradient(loss, batch.targeted(padded)), value_and_gradient(loss, batch))
        target = batch.target.clone()
        target[1::3] = code
        _as_if_absent(f"sets without members, {said}", loss, batch.targeted(target), (target != code).any(1))
    return "padding, and sets without members"


def _hidden_entries(subject: Subject) -> str:
    """What a mask hides changes nothing, and lists of which it shows as many items are worth the lists without the rest."""
    batch = subject.batch(6, kind=subject.kinds[-1])
    if not subject.inputs.hidden(batch):
        raise NotApplicable("it takes no mask")
    _comparable(subject)
    for reduction in reductions(subject):
        loss, said = subject.make(**reduction), parameters_said(reduction)
        plain = value_and_gradient(loss, batch)
        for name, real in subject.inputs.hidden(batch).items():
            value, shown = batch[name], real.view(*real.shape, *[1] * (batch[name].ndim - 2))
            for filling in (value.flip(0), torch.full_like(value, 1e3)):
                junk = batch.changed({name: torch.where(shown, value, filling)})
                found, gradients = gradients_of(loss, junk)
                same(f"other {name} behind the mask, {said}", (found, side_by_side(gradients)), plain)
                if name in gradients:
                    hidden = gradients[name].masked_select(~shown)
                    agree(f"gradient of hidden {name}, {said}", hidden, torch.zeros_like(hidden))
        if "mask" in batch.given and batch["mask"].ndim == 2:
            _cut_to_what_is_real(loss, batch, said)
    return f"{', '.join(subject.inputs.hidden(batch))} behind masks"


def _cut_to_what_is_real(loss: nn.Module, batch: Batch, said: str) -> None:
    places = torch.tensor([[0, 2, 3, 5], [0, 1, 2, 3], [0, 3, 4, 5], [0, 2, 4, 5], [0, 1, 4, 5], [0, 1, 2, 5]])
    items = [name for name, value in batch.tensors.items() if value.shape == batch.output.shape]
    mask = torch.zeros_like(batch["mask"]).scatter(1, places, True)
    everything = torch.ones_like(places, dtype=torch.bool)
    cut = batch.changed({**{name: batch[name].gather(1, places) for name in items}, "mask": everything})
    value, gradient = value_and_gradient(loss, batch.changed({"mask": mask}))
    for what, short in (("a full mask", cut), ("no mask", cut.without("mask"))):
        expected = value_and_gradient(loss, short)
        same(f"padded lists against short ones with {what}, {said}", (value, gradient.gather(1, places)), expected)


def weight_of_two_is_listed_twice(subject: Subject) -> str:
    """A weight of 2 is worth listing the sample twice: for classes in the mean and the sum, for elements in the sum."""
    subject.need("weight", "reduction")
    _comparable(subject)
    if not subject.decomposable:
        raise NotApplicable("it is a function of the batch as a whole")
    batch = subject.batch(7)
    output, target = batch.output, batch.target
    if subject.family not in ("classification", "multilabel", "regression"):
        raise NotApplicable("its weight is neither of classes nor of elements")
    if subject.family == "classification":
        weight = torch.ones(subject.inputs.classes, dtype=torch.float64)
        heavy = int(target[0])
        weight[heavy] = 2
        twice = torch.cat([torch.arange(7), (target == heavy).nonzero().flatten()])
        for reduction in ("mean", "sum"):
            smooth = {"label_smoothing": 0.0} if subject.takes("label_smoothing") else {}
            weighted = value_and_gradient(subject.make(weight=weight, reduction=reduction, **smooth), batch)
            plain = subject.make(reduction=reduction, **smooth)
            listed, gradient = value_and_gradient(plain, batch.take(twice))
            same(f"class weight 2, {reduction}", weighted, (listed, torch.zeros_like(output).index_add(0, twice, gradient)))
        return "class weights, mean and sum"
    weight = torch.ones(7, 1, dtype=torch.float64)
    weight[2] = 2
    twice = torch.tensor([*range(7), 2])
    tried = ("sum", "mean") if subject.family == "regression" else ("sum",)
    for reduction in tried:
        weighted = value_and_gradient(subject.make(weight=weight.expand_as(output), reduction=reduction), batch)
        listed, gradient = value_and_gradient(subject.make(reduction=reduction), batch.take(twice))
        same(f"weight 2, {reduction}", weighted, (listed, torch.zeros_like(output).index_add(0, twice, gradient)))
    return f"element weights, {' and '.join(tried)}"


def smoothing_is_a_soft_target(subject: Subject) -> str:
    """Label smoothing e gives what the smoothed target gives: (1 - e) q + e / C, or (1 - e) y + e / 2 for a label."""
    subject.need("label_smoothing")
    if not subject.soft_targets:
        raise NotApplicable("it takes no soft targets")
    share = 0.3
    for kind in subject.kinds:
        for setting in settings(subject):
            if "label_smoothing" in setting:
                continue
            smooth, plain = (subject.summed(label_smoothing=e, **setting) for e in (share, 0.0))
            batch = subject.batch(6, kind=kind, loss=plain)
            q = one_hot(subject, batch.target) if subject.family == "classification" and kind == "hard" else batch.target
            options = subject.inputs.classes if subject.family == "classification" else 2
            blurred = batch.targeted(q * (1 - share) + share / options)
            said = f"smoothing {share} of {kind} targets, {list(setting) or 'defaults'}"
            same(said, value_and_gradient(smooth, batch), value_and_gradient(plain, blurred))
    return "hard and soft targets, with and without weights"


def permutation_of_the_batch(subject: Subject) -> str:
    """The order of the samples does not matter."""
    _comparable(subject)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    for kind in subject.kinds:
        for reduction in reductions(subject):
            loss = subject.make(**reduction)
            batch = subject.batch(6, kind=kind, loss=loss)
            value, gradient = value_and_gradient(loss, batch)
            permuted = value_and_gradient(loss, batch.take(order))
            if value.ndim:
                value = value[order]
            same(f"permuted batch, {kind}, {parameters_said(reduction)}", permuted, (value, gradient[order]))
    return "values and gradients"


def permutation_within_samples(subject: Subject) -> str:
    """The order of what a sample consists of does not matter: items of a list, members of a set, tokens, heads, ranked labels."""
    _comparable(subject)
    tried: set[str] = set()
    for kind in subject.kinds:
        for reduction in reductions(subject):
            loss = subject.make(**reduction)
            batch = subject.batch(6, kind=kind, loss=loss)
            value, gradients = gradients_of(loss, batch)
            for what, orders in subject.inputs.symmetries(batch).items():
                tried.add(what)
                reordered = batch.changed({name: batch[name].index_select(1, order) for name, order in orders.items()})
                expected = {n: g.index_select(1, orders[n]) if n in orders else g for n, g in gradients.items()}
                found, permuted = gradients_of(loss, reordered)
                said = f"{what} in another order, {kind}, {parameters_said(reduction)}"
                same(said, (found, side_by_side(permuted)), (value, side_by_side(expected)))
    if not tried:
        raise NotApplicable("the places in its samples differ in meaning")
    return ", ".join(sorted(tried))


def duplicated_batch(subject: Subject) -> str:
    """A batch listed twice has the same mean and twice the sum."""
    if not subject.decomposable:
        raise NotApplicable("it is a function of the batch as a whole")
    _comparable(subject)
    for kind in subject.kinds:
        for reduction in reductions(subject):
            loss = subject.make(**reduction)
            batch = subject.batch(5, kind=kind, loss=loss)
            plain, doubled = call(loss, batch), call(loss, batch.take(torch.arange(10) % 5))
            if plain.ndim:
                plain = plain[torch.arange(10) % 5]
            factor = 2.0 if reduction == {"reduction": "sum"} else 1.0
            agree(f"{parameters_said(reduction)} of the doubled batch, {kind}", doubled, factor * plain)
    return "mean the same, sum doubled"


def special_cases(subject: Subject) -> str:
    """Each declared identity with another objective holds, in value and gradient, at extreme outputs too."""
    spec = subject.need_spec("identities are declared where an objective is registered")
    if not spec.special_cases:
        raise NotApplicable("it declares none")
    from lossary.testing._detect import subject_of

    common = ("weight", "pos_weight", "ignore_index", "label_smoothing", "reduction")
    if "weight" in subject.given and not subject.inputs.by_class:
        raise NotApplicable("the weight given is for a batch of its own size")
    for case in spec.special_cases:
        given = {name: value for name, value in subject.given.items() if name in common and name not in case.parameters}
        left, right = subject.make(**case.parameters), subject_of(case.equals).make(**{**given, **case.of})
        takes = set(inputs_of(right))
        for kind in subject.kinds:
            batches = {"a batch": subject.batch(6, loss=left, kind=kind)}
            batches |= subject.inputs.extreme_batches(left, kind=kind)  # far out is where programs part from their maths
            for what, batch in batches.items():
                other = batch
                for name in batch.sides:
                    other = other if name in takes else other.without(name)
                said = f"{dict(case.parameters)} against {case.equals}, {what}, {kind}"
                same(said, value_and_gradient(left, batch), value_and_gradient(right, other))
    return ", ".join(f"{dict(case.parameters)} is {case.equals}" for case in spec.special_cases)


def accumulation_over_micro_batches(subject: Subject) -> str:
    """Gradients of micro-batches of equal size add up to those of the whole batch."""
    if not subject.decomposable:
        raise NotApplicable("it is a function of the batch as a whole")
    _comparable(subject)
    for reduction in reductions(subject):
        loss = subject.make(**reduction)
        batch = subject.batch(8, loss=loss)
        _, whole = value_and_gradient(loss, batch)
        shares = 1 if reduction.get("reduction", "mean") != "mean" else 4
        parts = [value_and_gradient(loss, batch.take(slice(i, i + 2)))[1] / shares for i in range(0, 8, 2)]
        agree(f"gradients of four micro-batches, {parameters_said(reduction)}", torch.cat(parts), whole)
    return "four micro-batches of two"
