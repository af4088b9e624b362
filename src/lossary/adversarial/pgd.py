"""Projected gradient ascent: the worst input near a given one."""

from collections.abc import Callable

import torch
from torch import Tensor

from lossary._core.checks import check_floating
from lossary._core.parameters import Count, Positive, Real, checked
from lossary._core.registry import unit
from lossary.errors import InvalidTypeError, InvalidValueError


@unit(kind="data_rule")
@checked("pgd")
def pgd(
    model: Callable[[Tensor], Tensor],
    x: Tensor,
    objective: Callable[[Tensor], Tensor],
    epsilon: Positive = 8 / 255,
    step_size: Positive = 2 / 255,
    steps: Count = 10,
    *,
    random_start: bool = True,
    low: Real | None = None,
    high: Real | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""The input near x at which an objective is largest, as far as projected gradient ascent finds it.

    .. math:: x' \leftarrow \Pi_{\lVert x' - x \rVert_\infty \le \epsilon}
        \left( x' + \alpha\,\mathrm{sign}\,\nabla_{x'} \sum_n \mathcal{L}(f(x'))_n \right)

    The result is a constant: no gradient flows through it, the gradients of the model's parameters are left as they are, and so
    is the model's mode (in training mode batch statistics see these inputs too). For ``smooth_adversarial_comp_sum`` the objective
    is the distance of the outputs to those at x, which has no gradient at x itself: keep the random start.

    Args:
        model: gives outputs for inputs.
        x: the inputs to start from.
        objective: gives the value to increase, for outputs: ``lambda logits: cross_entropy(logits, target)``. Samples must not
            depend on each other.
        epsilon: how far each number of the input may move.
        step_size: how far it moves in a step.
        steps: how many steps there are; with none it is the start.
        random_start: whether to start anywhere within epsilon, or at x.
        low, high: bounds that valid inputs have, such as 0 and 1 for images.
        generator: where the start comes from; without one it is the same at each call.
    Shape: x of any shape that the model takes; the result has its shape and dtype.
    Errors: an x that is not floating point, or a number outside its range, is a ``LossaryError``.
    Source: Mao, Mohri and Zhong, "Cross-Entropy Loss Functions: Theoretical Analysis and Applications", 2023, with the attack of
        Madry and others, 2018. The default sizes are usual for images of small size with values in [0, 1].

    >>> worst = pgd(lambda x: x * torch.tensor([3.0, -1.0]), torch.zeros(1, 2), torch.sum, epsilon=0.5, step_size=0.2)
    >>> worst
    tensor([[ 0.5000, -0.5000]])
    """
    check_floating("pgd", "x", x)
    if low is not None and high is not None and low > high:
        raise InvalidValueError(f"pgd: low must be at most high, which is {high!r}, got {low!r}")
    centre = x.detach()
    smallest, largest = centre - epsilon, centre + epsilon
    if low is not None:
        smallest, largest = smallest.clamp_min(low), largest.clamp_min(low)
    if high is not None:
        smallest, largest = smallest.clamp_max(high), largest.clamp_max(high)
    found = centre.clone()
    if random_start:
        draws = generator or torch.Generator(x.device).manual_seed(0)
        found = smallest + (largest - smallest) * torch.rand(x.shape, generator=draws, dtype=x.dtype, device=x.device)
    for _ in range(steps):
        with torch.enable_grad():
            found.requires_grad_()
            value = objective(model(found)).sum()
            gradient = torch.autograd.grad(value, found, allow_unused=True)[0] if value.requires_grad else None
        if gradient is None:
            raise InvalidTypeError("pgd: objective must be differentiable in the model's input, got a value without a gradient")
        found = (found.detach() + step_size * gradient.sign()).clamp(smallest, largest)
    return found.detach()
