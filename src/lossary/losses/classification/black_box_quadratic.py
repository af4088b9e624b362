"""The quadratic score from samples alone, as a loss: collisions of draws with each other, and hits of the target."""

from typing import Annotated, ClassVar

import torch
from torch import Tensor

from lossary._core.checks import check_class_inputs, check_shape
from lossary._core.objective import SoftmaxObjective, average_over_classes, log_softmax, widen
from lossary._core.parameters import Fraction, Interval, Reduction, Vector, formula
from lossary._core.registry import objective
from lossary.losses.classification._common import without_ignored

Draws = Annotated[int, Interval(low=2, whole=True)]


def counts_of_draws(p: Tensor, noise: Tensor) -> Tensor:
    """How often each class (N, C, *) is drawn from p by uniform numbers (N, draws, *), by inverting the distribution function."""
    cumulative = p.cumsum(1)
    cumulative = cumulative / cumulative[:, -1:]  # rounding must not leave a gap below 1
    up_to = torch.zeros_like(p)
    for drawn in noise.split(1, dim=1):
        up_to = up_to + (drawn < cumulative)
    return up_to.diff(dim=1, prepend=torch.zeros_like(p[:, :1]))


@formula
def black_box_quadratic(
    logits: Tensor,
    target: Tensor,
    noise: Tensor | None = None,
    *,
    num_draws: Draws = 4,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: Fraction = 0.0,
    generator: torch.Generator | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`BlackBoxQuadraticLoss`, with the same parameters; ``noise`` is what it draws if it is not
    given: numbers (N, draws, *) from 0 to 1, each of which chooses a class. The estimators that are given samples instead of
    logits are :func:`lossary.metrics.black_box_quadratic` and :func:`lossary.metrics.black_box_cross_entropy`."""
    check_class_inputs("black_box_quadratic", logits, target, weight)
    log_p = log_softmax(widen(without_ignored(logits, target, ignore_index)))
    n, shape = num_draws, (logits.shape[0], num_draws, *logits.shape[2:])
    if noise is None:
        noise = torch.empty(shape, dtype=torch.float32, device=logits.device).uniform_(generator=generator)
    else:
        check_shape("black_box_quadratic", "noise", noise, shape)
    counts = counts_of_draws(log_p.detach().exp(), noise.to(log_p.dtype))

    pairs = (counts * (counts - 1)).sum(1, keepdim=True)  # ordered pairs of equal draws
    value = pairs / (n * (n - 1)) - 2 / n * counts  # if the class is c

    log_p = log_p.masked_fill(log_p == -torch.inf, 0.0)  # a class that is masked is never drawn, and 0 times infinity is no number
    # Score function: the log-probability of each draw times what the draw costs, less the mean cost of the others, which the draw
    # has no part in. A draw costs 2/(n-1) for each other one that equals it, and -2 if it is c; all by counts.
    others = (pairs - 2 * (counts - 1)) * (2 / ((n - 1) * (n - 2))) if n > 2 else 0.0
    collisions = (counts / n * (2 / (n - 1) * (counts - 1) - others) * log_p).sum(1, keepdim=True)
    hits = 2 / (n * (n - 1)) * counts * ((counts * log_p).sum(1, keepdim=True) - n * log_p)
    estimate = collisions + hits  # only its gradient counts

    return average_over_classes(
        value + (estimate - estimate.detach()),
        target,
        weight=weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
    )


@objective(
    family="classification",
    function=black_box_quadratic,
    stochastic=True,
    distributed="inexact",  # other processes draw other numbers
    saturates=True,  # a class that is never drawn cannot be told that it should be
)
class BlackBoxQuadraticLoss(SoftmaxObjective):
    r"""The quadratic (Brier) score estimated from a few draws of the model, value and gradient alike without bias.

    .. math::
        \ell = \frac{1}{n(n-1)} \sum_{i \ne j} [X_i = X_j] - \frac{2}{n} \sum_i [X_i = y], \qquad
        X_1, \dots, X_n \sim p = \mathrm{softmax}(z), \qquad \mathbb{E}\,\ell = \sum_c p_c^2 - 2 p_y

    Plus one this is the Brier score on average; single values are coarse and can be negative. The gradient is that of the score
    function: the log-probability of each draw times what the draw costs, less what the other draws cost without it, which makes the
    variance smaller and adds no bias. It shows what can be learned from samples where a model gives no probabilities; where it does
    give them, the exact score is better. A class that is hardly ever drawn is hardly ever learned.

    Random numbers come from torch's global generator, as those of :class:`torch.nn.Dropout` do, or from the one given. A soft
    target averages the losses of its classes, for the same draws.

    Args:
        num_draws: the number n of draws for each sample, at least 2; the variance falls with it.
        weight, ignore_index, label_smoothing, reduction: as in :class:`torch.nn.CrossEntropyLoss`.
        generator: the source of the random numbers; it has to be on the device of the logits.
    Shape: logits (N, C, \*); target (N, \*) class indices, or (N, C, \*) probabilities.
    Units: a squared probability, from -1 to 1.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Kimpara, Frongillo and Waggoner, "Proper losses for discrete generative models", 2022: the quadratic loss on samples.
        Training on it by the score function with a leave-one-out baseline is our addition.

    >>> BlackBoxQuadraticLoss()(torch.tensor([[100.0, 0.0, 0.0]]), torch.tensor([0]))
    tensor(-1.)
    """

    noise: ClassVar[None] = None  # drawn for each batch

    def __init__(
        self,
        *,
        num_draws: Draws = 4,
        weight: Vector | None = None,
        ignore_index: int = -100,
        label_smoothing: Fraction = 0.0,
        generator: torch.Generator | None = None,
        reduction: Reduction = "mean",
    ):
        super().__init__(
            num_draws=num_draws,
            weight=weight,
            ignore_index=ignore_index,
            label_smoothing=label_smoothing,
            generator=generator,
            reduction=reduction,
        )
