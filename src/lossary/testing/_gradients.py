"""Gradients: that they are the derivative of the value, reach each sample, and lead to the right place."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lossary._core.parameters import Interval, OneOf
from lossary.errors import LossaryError
from lossary.testing._relations import parameters_said, settings
from lossary.testing._subject import (
    Batch,
    Failed,
    NotApplicable,
    Subject,
    agree,
    call,
    finite,
    first_line,
    value_and_gradient,
)

MANY = 30  # inputs


def variants(subject: Subject) -> list[dict[str, object]]:
    """The default, each number among the hyper-parameters at a few places of its declared domain, and each word.

    Sizes are left alone, and so are values that do not go with the other parameters.
    """
    found: list[dict[str, object]] = [{}]
    if subject.spec is not None:
        found += [dict(case.parameters) for case in subject.spec.special_cases]
        for parameter in subject.spec.parameters:
            kept = ("num_heads", "num_classes", "num_samples", "label_smoothing", "ignore_index")
            fixed = parameter.required or parameter.name.endswith("_dim") or parameter.name in kept
            if isinstance(parameter.domain, Interval) and not fixed:
                for place in (parameter.domain.low, 3) if parameter.domain.whole else (parameter.domain.low, 0.5, 3.0):
                    if parameter.domain.allows(place) and place != parameter.default:
                        found.append({parameter.name: place})
            elif isinstance(parameter.domain, OneOf) and parameter.name != "reduction":
                found += [{parameter.name: word} for word in parameter.domain.words if word != parameter.default]
    return [variant for variant in found if _goes(subject, variant)]


def _goes(subject: Subject, parameters: dict[str, object]) -> bool:
    """Whether the loss can be built with these parameters, and called."""
    if not parameters:
        return True
    try:
        loss = subject.make(**parameters)
        call(loss, subject.batch(2, loss=loss))
    except LossaryError:
        return False
    return True


def upstream_gradients(subject: Subject) -> str:
    """With ``reduction="none"``, a different upstream gradient for each item scales the gradient of that item alone."""
    subject.need("reduction")
    if not subject.decomposable:
        raise NotApplicable("it is a function of the batch as a whole")
    if subject.stochastic:
        raise NotApplicable("it draws random numbers for a batch, and other ones for one sample")
    upstream = torch.tensor([3.0, 0.0, -1.0, 0.5, 100.0], dtype=torch.float64)
    loss, alone = subject.make(reduction="none"), subject.make(reduction="sum")
    for kind in subject.kinds:
        batch = subject.batch(5, kind=kind, loss=loss)
        each = call(loss, batch)
        spread = upstream.view(-1, *[1] * (each.ndim - 1)).expand(each.shape)
        _, gradient = value_and_gradient(loss, batch, upstream=spread)
        for i, factor in enumerate(upstream.tolist()):
            _, own = value_and_gradient(alone, batch.take(slice(i, i + 1)))
            agree(f"sample {i} with upstream gradient {factor:g}", gradient[i : i + 1], factor * own)
    return "upstream gradients from -1 to 100"


def gradcheck_float64(subject: Subject) -> str:
    """The gradient is the numerical derivative of the value in float64, for every kind of batch."""
    if subject.stochastic:
        raise NotApplicable("its gradient estimates the derivative of an expectation")
    exact = dict(subject.spec.exact_gradient_with) if subject.spec is not None else {}
    if exact and subject.as_declared and _derivative(subject, {}) is None:
        raise Failed(f"declared exact only with {exact}, yet the gradient of the default is the derivative as well")
    surrogate = subject.spec is not None and not subject.spec.value_is_objective and not exact
    runs = [{**variant, **exact} for variant in variants(subject)] + [{**setting, **exact} for setting in settings(subject)[1:]]
    for parameters in runs:
        wrong = _derivative(subject, parameters)
        if wrong and surrogate:
            raise NotApplicable(f"its value is not the objective, and so the gradient is not its derivative ({wrong})")
        if wrong:
            raise Failed(f"{parameters_said(parameters)}: {wrong}")
    return f"{len(runs)} settings{f', with {exact}' if exact else ''}"


def _derivative(subject: Subject, parameters: dict[str, object]) -> str | None:
    """What is wrong with the gradient, or None."""
    n = 6 if any(isinstance(v, Tensor) and v.ndim > 1 for v in parameters.values()) else subject.inputs.few
    loss = subject.make(**parameters, **({"reduction": "none"} if subject.itemised else {}))
    for kind in subject.kinds:
        batch = subject.batch(n, seed=3, kind=kind, loss=loss)
        leaves = tuple(batch[name].requires_grad_() for name in batch.leaves)

        def value(*leaves: Tensor, loss: nn.Module = loss, batch: Batch = batch) -> Tensor:
            return call(loss, batch.changed(dict(zip(batch.leaves, leaves, strict=True))))

        try:
            # along two random directions, where each derivative by itself would take long, once this was done for the default
            many = sum(leaf.numel() for leaf in leaves) > MANY and bool(parameters)
            torch.autograd.gradcheck(value, leaves, fast_mode=many)
        except RuntimeError as error:
            return _difference(value, leaves) or first_line(str(error))
    return None


def _difference(value: Callable[..., Tensor], leaves: tuple[Tensor, ...], step: float = 1e-6) -> str | None:
    """The largest difference between the gradient of the sum and its central differences, in words."""
    gradients = torch.autograd.grad(value(*leaves).sum(), leaves)
    worst, said = 0.0, ""
    for place, (leaf, gradient) in enumerate(zip(leaves, gradients, strict=True)):
        numerical = torch.empty_like(leaf)
        with torch.no_grad():
            for i in range(leaf.numel()):
                ends = []
                for sign in (1, -1):
                    moved = leaf.clone(memory_format=torch.contiguous_format)
                    moved.view(-1)[i] += sign * step
                    ends.append(value(*leaves[:place], moved, *leaves[place + 1 :]).sum())
                numerical.view(-1)[i] = (ends[0] - ends[1]) / (2 * step)
        off = (gradient - numerical).abs().nan_to_num(float("inf")).flatten()
        at = int(off.argmax())
        if float(off[at]) > worst:
            worst = float(off[at])
            got, wanted = gradient.flatten()[at], numerical.flatten()[at]
            said = f"the gradient is {got:.6g} where the numerical derivative is {wanted:.6g}"
    return None if worst < 1e-5 else said  # where only items together differ, what gradcheck says has to do


def minimum_at_the_target(subject: Subject) -> str:
    """Where the loss is proper its expectation is stationary, and no smaller nearby, at the output of the true distribution."""
    claimed = subject.spec is not None and subject.spec.proper
    if not subject.decomposable or subject.family not in ("classification", "multilabel", "regression"):
        raise NotApplicable("its value is not that of one sample with one outcome")
    if subject.inputs.embedding is not None:
        raise NotApplicable("an embedding is not one prediction for each class")
    if subject.stochastic:
        raise NotApplicable("its value is an estimate")
    if subject.spec is not None and subject.spec.link in ("scores", "ranking") and not claimed:
        raise NotApplicable("its link is no distribution")
    steepest, lower = 0.0, 0.0
    for seed in range(3):
        output, target, weights = _truth(subject, seed)
        loss = subject.summed(label_smoothing=0.0) if "label_smoothing" in subject.given else subject.summed()

        def expected(
            output: Tensor, loss: nn.Module = loss, target: list[Tensor] = target, weights: Tensor = weights
        ) -> tuple[Tensor, Tensor]:
            pairs = [value_and_gradient(loss, subject.inputs.call(loss, output, t)) for t in target]
            value = sum((w * v for w, (v, _) in zip(weights, pairs, strict=True)), torch.zeros((), dtype=torch.float64))
            gradient = sum((w * g for w, (_, g) in zip(weights, pairs, strict=True)), torch.zeros_like(output))
            return value, gradient

        here, gradient = expected(output)
        finite("at the true distribution", here, gradient)  # the larger of 0 and NaN is 0
        steepest = max(steepest, float(gradient.abs().max()))
        generator = torch.Generator().manual_seed(seed)
        for size in (0.01, 0.3, 2.0):
            step = torch.randn(output.shape, generator=generator, dtype=torch.float64) * size
            lower = max(lower, float(here - expected(output + step)[0]))
    holds = steepest < 1e-8 and lower < 1e-9
    numbers = f"gradient {steepest:.3g} at the true distribution, and a place nearby that is {lower:.3g} lower"
    if claimed and not holds:
        raise Failed(f"declared proper, but {numbers}")
    if not claimed and subject.as_declared and holds:
        raise Failed(f"proper in fact (gradient {steepest:.3g} at the true distribution), but not declared so")
    if not holds:
        raise NotApplicable(f"it is not proper: {numbers}")
    return f"gradient {steepest:.1g} at the true distribution"


def _truth(subject: Subject, seed: int) -> tuple[Tensor, list[Tensor], Tensor]:
    """The output of a true distribution, and that distribution as outcomes with weights (outcomes are hard targets)."""
    inputs = subject.inputs
    if inputs.family == "regression":
        centre = inputs.output(1, seed=seed)
        return centre, [centre - 0.4, centre, centre + 0.4], torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64)
    if inputs.family == "classification":
        p = inputs.output(1, seed=seed, scale=1.0).softmax(1)
        return _invert(subject, p, p.log()), [torch.tensor([c]) for c in range(inputs.classes)], p[0]
    # labels are independent, and each has the same probability, so that two outcomes are the whole distribution
    chance = (0.2, 0.5, 0.9)[seed]
    p = torch.full((1, inputs.classes), chance, dtype=torch.float64)
    return _invert(subject, p, p.logit()), [torch.zeros_like(p), torch.ones_like(p)], torch.tensor([1 - chance, chance]).double()


def _invert(subject: Subject, p: Tensor, guess: Tensor) -> Tensor:
    """An output that the link maps to p: the inverse of the usual link, or found by descent for another link."""
    link = getattr(subject.make(), "link", None)
    if not callable(link) or bool(torch.isclose(link(guess), p, atol=1e-12).all()):
        return guess
    output = guess.clone().requires_grad_()
    search = torch.optim.LBFGS([output], max_iter=500, tolerance_grad=1e-14, tolerance_change=1e-16, line_search_fn="strong_wolfe")

    def off() -> Tensor:
        search.zero_grad()
        distance: Tensor = (link(output) - p).square().sum()
        distance.backward()
        return distance

    search.step(off)
    if float((link(output) - p).detach().abs().max()) > 1e-6:
        raise Failed("no output was found that its link maps to a given distribution")
    return output.detach()


def useful_gradient(subject: Subject) -> str:
    """A confidently wrong sample still pulls its output to the target, with at least a thousandth of the largest pull there is."""
    declared = subject.spec is not None and subject.spec.saturates
    if subject.inputs.embedding is not None:
        raise NotApplicable("an embedding has no wrong side")
    if subject.inputs.wrong(1.0, torch.float64) is None:
        raise NotApplicable("one sample alone has no wrong side")
    if subject.stochastic:
        raise NotApplicable("its gradient is drawn at random")
    margins = (20.0, 30.0, 50.0, 100.0, 1e3, 1e4) if subject.family not in ("regression", "bags") else (1e2, 1e3, 1e4)
    weakest, said = float("inf"), ""
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        loss = subject.summed().to(dtype=dtype if subject.spec is None else torch.float64)
        pulls = {m: _pull(subject, loss, m, dtype) for m in (-1e4, -100.0, -10.0, -3.0, -1.0, 0.0, 1.0, 3.0, 10.0, *margins)}
        largest = torch.stack(list(pulls.values())).abs().max()
        for margin in margins:
            share = float(pulls[margin].min() / largest)
            if not share > -float("inf"):
                raise Failed(f"the gradient of a sample that is wrong by {margin:g} is not a number in {dtype}")
            if share < weakest:
                weakest, said = (
                    share,
                    f"wrong by {margin:g} in {str(dtype).removeprefix('torch.')}: pull {share:.3g} of the largest",
                )
    if weakest < 1e-3:
        if declared:
            return f"saturates, as declared ({said})"
        raise Failed(said)
    if declared and subject.as_declared:
        raise Failed(f"declared to saturate, yet its weakest pull is {weakest:.3g} of the largest")
    return f"weakest pull {weakest:.2g} of the largest"


def _pull(subject: Subject, loss: nn.Module, margin: float, dtype: torch.dtype) -> Tensor:
    """How strongly the gradient pulls each wrong output to its target; negative where it pushes away."""
    sample = subject.inputs.wrong(margin, dtype)
    if sample is None:
        raise NotApplicable("one sample alone has no wrong side")
    _, gradient = value_and_gradient(loss, subject.inputs.call(loss, *sample))
    return subject.inputs.pull(gradient, margin)


def finite_at_extremes(subject: Subject) -> str:
    """Loss and gradient are finite for inputs of +-1e4, all equal, and one huge, in float64, float32, float16 and bfloat16."""
    count = 0
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        for parameters in variants(subject):
            some = subject.inputs.costly and bool(parameters)  # of the many batches of these families only those that say most
            if some and dtype in (torch.float64, torch.bfloat16):
                continue
            loss = subject.summed(**parameters).to(dtype=dtype if subject.spec is None else torch.float64)
            for kind in subject.kinds[-1:] if some else subject.kinds:
                for what, batch in subject.inputs.extreme_batches(loss, dtype=dtype, kind=kind).items():
                    name = str(dtype).removeprefix("torch.")
                    finite(f"sum of {what}, {parameters_said(parameters)}, {kind}, {name}", *value_and_gradient(loss, batch))
                    count += 1
    return f"{count} combinations of dtype, batch and parameters"


def constants_get_no_gradient(subject: Subject) -> str:
    """What only says where to go (a teacher's output, a target network's, another model's scores) is not moved by the loss."""
    tried: set[str] = set()
    for kind in subject.kinds:
        loss = subject.make()
        batch = subject.batch(6, kind=kind, loss=loss)
        for name in subject.inputs.constants(batch):
            tried.add(name)
            leaf = batch[name].clone().requires_grad_()
            value = call(loss, batch.changed({name: leaf}))
            (gradient,) = torch.autograd.grad(value.sum(), leaf, allow_unused=True) if value.requires_grad else (None,)
            if gradient is not None and bool(gradient.any()):
                raise Failed(f"{name} gets a gradient of {float(gradient.abs().max()):.3g}, {kind}")
    if not tried:
        raise NotApplicable("every output that it is given is to be trained")
    return ", ".join(sorted(tried))


def own_parameters(subject: Subject) -> str:
    """Each parameter of the loss's own gets the derivative of the value, finite at extremes, and 0 for an empty batch."""
    loss = subject.summed().double()
    own = {name: parameter for name, parameter in loss.named_parameters() if parameter.requires_grad}
    if not own:
        raise NotApplicable("it has no parameters of its own")
    if subject.stochastic:
        raise NotApplicable("its gradient is drawn at random")
    usual = subject.batch(6, loss=loss)
    extremes = subject.inputs.extreme_batches(loss)
    for what, batch in {"a batch": usual, **extremes, "an empty batch": subject.batch(0, loss=loss)}.items():
        value = loss(*batch.arguments, **batch.sides)
        gradients = torch.autograd.grad(value, list(own.values()), allow_unused=True)
        for name, gradient in zip(own, gradients, strict=True):
            if gradient is None:
                raise Failed(f"{what}: {name} gets no gradient at all, where several processes would wait for it")
            if not bool(gradient.isfinite().all()):
                raise Failed(f"{what}: the gradient of {name} is {gradient[~gradient.isfinite()].flatten()[0]:g}")
            if not batch.output.shape[0] and bool(gradient.any()):
                raise Failed(f"{what}: the gradient of {name} is {float(gradient.abs().max()):g} instead of 0")
    if subject.spec is None or subject.spec.value_is_objective:
        _own_derivatives(loss, own, usual)
    return f"{', '.join(own)}: {sum(parameter.numel() for parameter in own.values())} numbers"


def _own_derivatives(loss: nn.Module, own: dict[str, nn.Parameter], batch: Batch, step: float = 1e-6) -> None:
    """Compare the derivative along a few random directions with central differences."""
    generator = torch.Generator().manual_seed(11)
    gradients = torch.autograd.grad(loss(*batch.arguments, **batch.sides), list(own.values()))
    for name, gradient in zip(own, gradients, strict=True):
        for _ in range(3):
            direction = torch.randn(gradient.shape, generator=generator, dtype=torch.float64)
            ends = []
            with torch.no_grad():
                for sign in (1, -2, 1):  # up, down, and back
                    own[name].add_(direction, alpha=sign * step)
                    ends.append(float(loss(*batch.arguments, **batch.sides)))
            numerical, analytic = (ends[0] - ends[1]) / (2 * step), float((gradient * direction).sum())
            if not abs(numerical - analytic) <= 1e-4 * max(1.0, abs(numerical), abs(analytic)):
                raise Failed(f"the derivative of the loss by {name} is {analytic:.6g} where the numerical one is {numerical:.6g}")
