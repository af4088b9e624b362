"""The ways of running a loss other than calling it: compiled, mapped over a stack of models, under autocast."""

import copy
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import grad, vmap

from lossary.testing._relations import settings
from lossary.testing._subject import (
    Batch,
    Failed,
    NotApplicable,
    Sides,
    Subject,
    agree,
    call,
    first_line,
    seeded,
    side_by_side,
    value_and_gradient,
)


def compiles_whole(subject: Subject) -> str:
    """``torch.compile(fullgraph=True)`` accepts it, hard and soft targets alike, with the same value and gradient.

    The backend is "aot_eager": it traces forward and backward as every backend does, and needs no compiler.
    """
    declared = subject.spec is None or subject.spec.compile
    try:
        _compiled(subject)
    except Failed:
        raise
    except Exception as error:
        if declared:
            raise Failed(f"{type(error).__name__}: {first_line(str(error))}") from error
        return f"does not compile whole, as declared: {first_line(str(error))}"
    finally:
        torch.compiler.reset()
    if not declared:
        raise Failed("declared not to compile whole, yet it does")
    return "one graph, values and gradients the same"


def _compiled(subject: Subject) -> None:
    for kind in subject.kinds:
        loss = subject.make()
        copied, batch = copy.deepcopy(loss), subject.batch(6, kind=kind, dtype=torch.float32, loss=loss)
        torch.compiler.reset()

        def run(arguments: list[Tensor | float], sides: Sides, loss: Callable[..., Tensor] = copied) -> Tensor:
            return loss(*arguments, **sides)

        compiled = torch.compile(run, fullgraph=True, backend="aot_eager", dynamic=False)
        leaves = {name: batch[name].clone().requires_grad_() for name in batch.leaves}
        seen = batch.changed(leaves)
        with seeded():
            value = compiled(seen.arguments, seen.sides)
        gradients = torch.autograd.grad(value.sum(), list(leaves.values()))
        plain, expected = value_and_gradient(loss, batch)
        agree(f"compiled value, {kind}", value, plain)
        agree(f"compiled gradient, {kind}", side_by_side(dict(zip(leaves, gradients, strict=True))), expected)


def maps_over_models(subject: Subject) -> str:
    """``torch.func.vmap`` over a stack of models gives each model the value and gradient of a loop; targets shared or stacked."""
    declared = subject.spec is None or subject.spec.vmap
    try:
        _mapped(subject)
    except (Failed, NotApplicable):
        raise
    except Exception as error:
        if declared:
            raise Failed(f"{type(error).__name__}: {first_line(str(error))}") from error
        return f"cannot be mapped, as declared: {first_line(str(error))}"
    if not declared:
        raise Failed("declared not to run under vmap, yet it does")
    return "targets shared and stacked, values and gradients"


def _mapped(subject: Subject) -> None:
    draws = "same" if subject.stochastic else "error"
    for setting in settings(subject):
        loss = subject.make(**setting)
        for kind in subject.kinds:
            batches = [subject.batch(6, seed=seed, kind=kind, loss=loss) for seed in range(3)]
            leaves = {name: torch.stack([batch[name] for batch in batches]) for name in batches[0].leaves}
            second = batches[0].second
            # what belongs to a sample beside its output, such as its group, is the same for every model
            fixed = {second: torch.stack([b.target for b in batches])} if second is not None and second not in leaves else {}

            def one(leaves: Mapping[str, Tensor], fixed: Mapping[str, Tensor], batch: Batch, loss: nn.Module) -> Tensor:
                seen = batch.changed({**leaves, **fixed})
                value: Tensor = loss(*seen.arguments, **seen.sides)
                return value.sum()

            for shared in (True, False) if fixed else (True,):
                given = {name: value[0] for name, value in fixed.items()} if shared else fixed
                mapped = partial(one, batch=batches[0], loss=loss)
                dims = (0, None) if shared else (0, 0)
                with seeded():
                    values = vmap(mapped, in_dims=dims, randomness=draws)(leaves, given)
                with seeded():
                    gradients = vmap(grad(mapped), in_dims=dims, randomness=draws)(leaves, given)
                for i in range(3):
                    alone = {name: value[i] for name, value in leaves.items()}
                    alone |= given if shared else {name: value[i] for name, value in fixed.items()}
                    value, gradient = value_and_gradient(loss, batches[0].changed(alone))
                    said = f"model {i}, {kind}, targets {'shared' if shared else 'stacked'}"
                    agree(f"{said}, value", values[i], value.sum())
                    agree(f"{said}, gradient", side_by_side({n: gradients[n][i] for n in leaves}), gradient)


def autocast_changes_nothing(subject: Subject) -> str:
    """Under CPU autocast to bfloat16, float32 inputs give the float32 loss and gradient they give without."""
    for kind in subject.kinds:
        loss = subject.make()
        batch = subject.batch(6, kind=kind, dtype=torch.float32, loss=loss)
        plain = value_and_gradient(loss, batch)
        leaves = {name: batch[name].clone().requires_grad_() for name in batch.leaves}
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = call(loss, batch.changed(leaves))
        gradients = torch.autograd.grad(value.sum(), list(leaves.values()))
        if value.dtype != torch.float32:
            raise Failed(f"the loss is in {value.dtype}")
        agree("value under autocast", value, plain[0], rtol=1e-6, atol=1e-7)
        gradient = side_by_side(dict(zip(leaves, gradients, strict=True)))
        agree("gradient under autocast", gradient, plain[1], rtol=1e-6, atol=1e-7)
    return "float32 stays float32"
