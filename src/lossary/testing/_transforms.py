"""The ways of running a loss other than calling it: compiled, mapped over a stack of models, under autocast."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import grad, vmap

from lossary.testing._relations import settings
from lossary.testing._subject import (
    Failed,
    NotApplicable,
    Sides,
    Subject,
    agree,
    call,
    first_line,
    seeded,
    sides_for,
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
    output = subject.inputs.output(6, dtype=torch.float32)
    for soft in subject.softable:
        target = subject.inputs.target(6, soft=soft, dtype=torch.float32)
        loss = subject.make()
        copied, sides = copy.deepcopy(loss), sides_for(loss, output, target)
        torch.compiler.reset()

        def run(output: Tensor, target: Tensor, loss: Callable[..., Tensor] = copied, sides: Sides = sides) -> Tensor:
            return loss(output, target, **sides)

        compiled = torch.compile(run, fullgraph=True, backend="aot_eager", dynamic=False)
        leaf = output.clone().requires_grad_()
        with seeded():
            value = compiled(leaf, target)
        (gradient,) = torch.autograd.grad(value.sum(), leaf)
        plain, expected = value_and_gradient(loss, output, target)
        agree(f"compiled value, {'soft' if soft else 'hard'} targets", value, plain)
        agree(f"compiled gradient, {'soft' if soft else 'hard'} targets", gradient, expected)


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
    outputs = torch.stack([subject.inputs.output(6, seed=seed) for seed in range(3)])
    draws = "same" if subject.stochastic else "error"
    for setting in settings(subject):
        loss = subject.make(**setting)
        sides = sides_for(loss, outputs[0], subject.inputs.target(6))

        def one(output: Tensor, target: Tensor, loss: Callable[..., Tensor] = loss, sides: Sides = sides) -> Tensor:
            return loss(output, target, **sides).sum()

        for soft in subject.softable:
            targets = torch.stack([subject.inputs.target(6, seed=seed, soft=soft) for seed in range(3)])
            for name, given, dims in (("shared", targets[0], (0, None)), ("stacked", targets, (0, 0))):
                with seeded():
                    values = vmap(one, in_dims=dims, randomness=draws)(outputs, given)
                with seeded():
                    gradients = vmap(grad(one), in_dims=dims, randomness=draws)(outputs, given)
                for i in range(3):
                    value, gradient = value_and_gradient(loss, outputs[i], given if name == "shared" else given[i])
                    agree(f"model {i}, targets {name}, value", values[i], value.sum())
                    agree(f"model {i}, targets {name}, gradient", gradients[i], gradient)


def autocast_changes_nothing(subject: Subject) -> str:
    """Under CPU autocast to bfloat16, float32 inputs give the float32 loss and gradient they give without."""
    output = subject.inputs.output(6, dtype=torch.float32)
    for soft in subject.softable:
        target = subject.inputs.target(6, soft=soft, dtype=torch.float32)
        loss = subject.make()
        plain = value_and_gradient(loss, output, target)
        leaf = output.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = call(loss, leaf, target)
        (gradient,) = torch.autograd.grad(value.sum(), leaf)
        if value.dtype != torch.float32:
            raise Failed(f"the loss is in {value.dtype}")
        agree("value under autocast", value, plain[0], rtol=1e-6, atol=1e-7)
        agree("gradient under autocast", gradient, plain[1], rtol=1e-6, atol=1e-7)
    return "float32 stays float32"
