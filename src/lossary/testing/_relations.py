"""Identities between values: what a loss must return given what it returned elsewhere."""

import inspect
from typing import Any

import torch
from torch import Tensor

from lossary.testing._subject import (
    Batch,
    Failed,
    NotApplicable,
    Subject,
    agree,
    call,
    complaint,
    keywords_of,
    same,
    value_and_gradient,
)


def settings(subject: Subject) -> list[dict[str, Any]]:
    """The default, and each common parameter away from its default."""
    found: list[dict[str, Any]] = [{}]
    if subject.takes("weight"):
        found.append(
            {"weight": subject.inputs.class_weight()} if subject.family == "classification" else {"weight": _spread(subject)}
        )
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

    A class may have parameters beyond those of the function where the function is handed what they size: weights, a memory.
    """
    spec = subject.need_spec("only a registered objective has a pure function beside its module")
    of_function = {name: p for name, p in keywords_of(spec.function).items() if p.kind is inspect.Parameter.KEYWORD_ONLY}
    of_class = keywords_of(spec.cls)
    handed = len(keywords_of(spec.function)) - len(of_function) > 2
    shared = [name for name in of_class if name in of_function] if handed else list(of_class)
    if list(of_function) != shared:
        raise Failed(f"the function takes {', '.join(of_function)}; the class takes {', '.join(of_class)}")
    for name, parameter in of_function.items():
        if parameter.default != of_class[name].default:
            raise Failed(f"{name} is {parameter.default!r} by default in the function and {of_class[name].default!r} in the class")
        if parameter.annotation != of_class[name].annotation:
            raise Failed(f"{name} is annotated differently in the function and in the class")
    compared = 0
    for soft in subject.softable:
        batch = subject.batch(6, soft=soft)
        for setting in settings(subject):
            for reduction in _reductions(subject):
                parameters = {**setting, "reduction": reduction}
                by_module = call(subject.make(**parameters), *batch)
                by_function = subject.by_function(batch, **parameters)
                agree(f"module against function with {list(setting)}, {reduction}", by_module, by_function)
                compared += 1
    return f"{len(of_function)} parameters, {compared} settings"


def _reductions(subject: Subject) -> tuple[str, ...]:
    return ("mean", "sum", "none") if subject.decomposable else ("mean", "sum")


def reductions_agree(subject: Subject) -> str:
    """``none`` has a value for each item, ``sum`` adds them up, and ``mean`` divides by what the rule for means says."""
    subject.need("reduction")
    if not subject.decomposable:
        subject.need_spec("a loss of bags may reduce as it likes")
        output, target = subject.inputs.output(6), subject.inputs.target(6)
        try:
            call(subject.make(reduction="none"), output, target)
        except Exception as error:
            wrong = complaint(subject, error, "reduction")
            if wrong:
                raise Failed(f"reduction='none': {wrong}") from error
            return "a function of the batch as a whole: 'none' is refused"
        raise Failed("declared to be a function of the batch as a whole, yet reduction='none' is accepted")
    spaces: list[tuple[int, ...]] = [(), (3,)] if subject.spatial else [()]
    for space in spaces:
        output = subject.inputs.output(6, space=space)
        for soft in subject.softable:
            target = subject.inputs.target(6, space=space, soft=soft)
            for setting in settings(subject):
                if space and "weight" in setting and subject.family != "classification":
                    setting = {"weight": setting["weight"].unsqueeze(-1).expand(*output.shape)}
                if space and "pos_weight" in setting:
                    setting = {"pos_weight": setting["pos_weight"].unsqueeze(-1)}
                said = f"{'soft' if soft else 'hard'} targets, {list(setting) or 'defaults'}"
                each = call(subject.make(reduction="none", **setting), output, target)
                if tuple(each.shape) != subject.inputs.per_item(output):
                    raise Failed(f"reduction='none' has shape {tuple(each.shape)} instead of {subject.inputs.per_item(output)}")
                agree(f"sum ({said})", call(subject.make(reduction="sum", **setting), output, target), each.sum())
                divisor = _divisor(subject, output, target, setting)
                agree(f"mean ({said})", call(subject.make(reduction="mean", **setting), output, target), each.sum() / divisor)
    default = call(subject.make(), output, target)
    if default.ndim:
        raise Failed("the default reduction is not a single number")
    return "none, sum and mean, hard and soft targets, with and without weights"


def _divisor(subject: Subject, output: Tensor, target: Tensor, setting: dict[str, Any]) -> Tensor:
    """What the mean divides by: see "One rule for targets, weights and means"."""
    weight = setting.get("weight", subject.given.get("weight"))
    if subject.family == "classification":
        if weight is not None and not target.is_floating_point():
            return torch.as_tensor(weight[target].sum())
        return torch.tensor(float(output.numel() // output.shape[1]), dtype=torch.float64)
    if subject.family == "label_ranking":
        return (target > 0).any(1).sum().double()
    if subject.family == "regression" and weight is not None:
        return torch.as_tensor(weight.expand_as(output).sum())
    return torch.tensor(float(output.numel()), dtype=torch.float64)


def one_hot_is_index(subject: Subject) -> str:
    """A one-hot distribution is worth the class index, in value and gradient."""
    if subject.family != "classification":
        raise NotApplicable("its targets are not classes")
    if not subject.soft_targets:
        raise NotApplicable("it takes no soft targets")
    output, target = subject.inputs.output(6), subject.inputs.target(6)
    for setting in settings(subject):
        loss = subject.summed(**setting) if setting else subject.make()  # with weights, the two means divide by different sums
        hot = subject.inputs.one_hot(target)
        same(
            f"one-hot with {list(setting) or 'defaults'}",
            value_and_gradient(loss, output, hot),
            value_and_gradient(loss, output, target),
        )
    return "values and gradients"


def ignored_is_absent(subject: Subject) -> str:
    """What does not count changes nothing: ignored samples, rows of which no label matters, bags without samples."""
    if subject.family == "label_ranking":
        return _rows_without_positives(subject)
    if subject.family == "bags":
        return _bags_without_samples(subject)
    subject.need("ignore_index")
    if not subject.takes("reduction"):
        raise NotApplicable("it has no parameter 'reduction'")
    _comparable(subject)
    output, clean, sides = subject.batch(8)
    codes = (-100, 2, 255) if subject.family == "classification" else (-100, -1)
    reductions = _reductions(subject)
    for code in codes:
        target = clean.clone()
        target[1::3] = code
        kept = (target != code) if subject.family == "classification" else (target != code).all(1)
        for setting in settings(subject):
            if "weight" in setting and subject.family != "classification":
                continue  # an element's weight goes away with the element: nothing to compare
            for reduction in reductions:
                loss = subject.make(ignore_index=code, reduction=reduction, **setting)
                said = f"ignore_index {code}, {reduction}, {list(setting) or 'defaults'}"
                value, gradient = value_and_gradient(loss, output, target, sides)
                without = value_and_gradient(loss, *Batch(output, target, sides).take(kept))
                if reduction == "none":
                    agree(f"{said}, ignored values", value[~kept], torch.zeros_like(value[~kept]))
                    value = value[kept]
                same(said, (value, gradient[kept]), without)
                agree(f"{said}, gradient of ignored samples", gradient[~kept], torch.zeros_like(gradient[~kept]))
    return f"codes {', '.join(map(str, codes))}"


def _comparable(subject: Subject) -> None:
    """Leave a check that calls the loss with other samples, for which it would draw other random numbers."""
    if subject.stochastic:
        raise NotApplicable("it draws random numbers for a batch, and other ones for another batch")


def _rows_without_positives(subject: Subject) -> str:
    output, target, sides = subject.batch(8)
    target[1::3] = 0
    kept = (target > 0).any(1)
    for reduction in _reductions(subject) if subject.takes("reduction") else ("",):
        loss = subject.make(reduction=reduction) if reduction else subject.make()
        value, gradient = value_and_gradient(loss, output, target, sides)
        without = value_and_gradient(loss, *Batch(output, target, sides).take(kept))
        if reduction == "none":
            agree("rows without positives, values", value[~kept], torch.zeros_like(value[~kept]))
            value = value[kept]
        same(f"rows without positives, {reduction or 'default'}", (value, gradient[kept]), without)
        agree("gradient of rows without positives", gradient[~kept], torch.zeros_like(gradient[~kept]))
    return "rows without positives count neither in the sum nor in the mean"


def _bags_without_samples(subject: Subject) -> str:
    output, target, sides = subject.batch(8)
    for reduction in _reductions(subject) if subject.takes("reduction") else ("",):
        loss = subject.make(reduction=reduction) if reduction else subject.make()
        more = torch.cat([target, target.flip(0)])
        plain = value_and_gradient(loss, output, target, sides)
        same(f"bags without samples, {reduction or 'default'}", value_and_gradient(loss, output, more, sides), plain)
    return "bags without samples count neither in the sum nor in the mean"


def weight_of_two_is_listed_twice(subject: Subject) -> str:
    """A weight of 2 is worth listing the sample twice: for classes in the mean and the sum, for elements in the sum."""
    subject.need("weight", "reduction")
    _comparable(subject)
    if not subject.decomposable:
        raise NotApplicable("it is a function of the batch as a whole")
    batch = subject.batch(7)
    output, target = batch.output, batch.target
    if subject.family == "classification":
        weight = torch.ones(subject.inputs.classes, dtype=torch.float64)
        heavy = int(target[0])
        weight[heavy] = 2
        twice = torch.cat([torch.arange(7), (target == heavy).nonzero().flatten()])
        for reduction in ("mean", "sum"):
            smooth = {"label_smoothing": 0.0} if subject.takes("label_smoothing") else {}
            weighted = value_and_gradient(subject.make(weight=weight, reduction=reduction, **smooth), *batch)
            plain = subject.make(reduction=reduction, **smooth)
            listed, gradient = value_and_gradient(plain, *batch.take(twice))
            same(f"class weight 2, {reduction}", weighted, (listed, torch.zeros_like(output).index_add(0, twice, gradient)))
        return "class weights, mean and sum"
    weight = torch.ones(7, 1, dtype=torch.float64)
    weight[2] = 2
    twice = torch.tensor([*range(7), 2])
    reductions = ("sum", "mean") if subject.family == "regression" else ("sum",)
    for reduction in reductions:
        weighted = value_and_gradient(subject.make(weight=weight.expand_as(output), reduction=reduction), *batch)
        listed, gradient = value_and_gradient(subject.make(reduction=reduction), *batch.take(twice))
        same(f"weight 2, {reduction}", weighted, (listed, torch.zeros_like(output).index_add(0, twice, gradient)))
    return f"element weights, {' and '.join(reductions)}"


def smoothing_is_a_soft_target(subject: Subject) -> str:
    """Label smoothing e gives what the smoothed target gives: (1 - e) q + e / C, or (1 - e) y + e / 2 for a label."""
    subject.need("label_smoothing")
    if not subject.soft_targets:
        raise NotApplicable("it takes no soft targets")
    output, share = subject.inputs.output(6), 0.3
    for soft in subject.softable:
        target = subject.inputs.target(6, soft=soft)
        q = subject.inputs.one_hot(target) if subject.family == "classification" and not soft else target
        options = subject.inputs.classes if subject.family == "classification" else 2
        for setting in settings(subject):
            if "label_smoothing" in setting:
                continue
            smooth, plain = (subject.summed(label_smoothing=e, **setting) for e in (share, 0.0))
            said = f"smoothing {share} of {'soft' if soft else 'hard'} targets, {list(setting) or 'defaults'}"
            blurred = q * (1 - share) + share / options
            same(said, value_and_gradient(smooth, output, target), value_and_gradient(plain, output, blurred))
    return "hard and soft targets, with and without weights"


def permutation_of_the_batch(subject: Subject) -> str:
    """The order of the samples does not matter."""
    _comparable(subject)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    for soft in subject.softable:
        batch = subject.batch(6, soft=soft)
        value, gradient = value_and_gradient(subject.make(), *batch)
        permuted = value_and_gradient(subject.make(), *batch.take(order))
        if value.ndim:
            value = value[order]
        same("permuted batch", permuted, (value, gradient[order]))
    return "values and gradients"


def duplicated_batch(subject: Subject) -> str:
    """A batch listed twice has the same mean and twice the sum."""
    if not subject.decomposable:
        raise NotApplicable("it is a function of the batch as a whole")
    _comparable(subject)
    batch = subject.batch(5)
    twice = batch.take(torch.arange(10) % 5)
    for reduction, factor in (("mean", 1.0), ("sum", 2.0)):
        if reduction == "sum" and not subject.takes("reduction"):
            continue
        loss = subject.make(reduction=reduction) if subject.takes("reduction") else subject.make()
        agree(f"{reduction} of the doubled batch", call(loss, *twice), factor * call(loss, *batch))
    return "mean the same, sum doubled"


def special_cases(subject: Subject) -> str:
    """Each declared identity with another objective holds, in value and gradient, at extreme outputs too."""
    spec = subject.need_spec("identities are declared where an objective is registered")
    if not spec.special_cases:
        raise NotApplicable("it declares none")
    from lossary.testing._detect import subject_of

    output = torch.cat([subject.inputs.output(6), subject.inputs.extremes()])  # far out is where programs part from their maths
    common = ("weight", "pos_weight", "ignore_index", "label_smoothing", "reduction")
    if "weight" in subject.given and subject.family != "classification":
        raise NotApplicable("the weight given is for a batch of its own size")
    for case in spec.special_cases:
        other = subject_of(case.equals).make
        given = {name: value for name, value in subject.given.items() if name in common and name not in case.parameters}
        for soft in subject.softable:
            target = subject.inputs.target(output.shape[0], soft=soft)
            left = value_and_gradient(subject.make(**case.parameters), output, target)
            right = value_and_gradient(other(**{**given, **case.of}), output, target)
            same(f"{dict(case.parameters)} against {case.equals}", left, right)
    return ", ".join(f"{dict(case.parameters)} is {case.equals}" for case in spec.special_cases)


def accumulation_over_micro_batches(subject: Subject) -> str:
    """Gradients of micro-batches of equal size add up to those of the whole batch."""
    if not subject.decomposable:
        raise NotApplicable("it is a function of the batch as a whole")
    _comparable(subject)
    batch = subject.batch(8)
    for reduction, shares in (("mean", 4), ("sum", 1)):
        if reduction == "sum" and not subject.takes("reduction"):
            continue
        loss = subject.make(reduction=reduction) if subject.takes("reduction") else subject.make()
        _, whole = value_and_gradient(loss, *batch)
        parts = [value_and_gradient(loss, *batch.take(slice(i, i + 2)))[1] / shares for i in range(0, 8, 2)]
        agree(f"gradients of four micro-batches, {reduction}", torch.cat(parts), whole)
    return "four micro-batches of two"
