"""Normalised logistic regression: the logistic gradient divided by the mean weight of its errors."""

import functools

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from lossary._core.checks import check_element_inputs
from lossary._core.objective import SigmoidObjective, is_ignored, widen
from lossary._core.parameters import SetReduction, formula
from lossary._core.registry import objective
from lossary._fast import dispatch
from lossary._fast.one_pass import in_one_pass
from lossary.losses.multilabel._common import flat

LARGEST = 80.0  # a logarithm of what fits into float32
LEAST = 1e-20  # a sum of weights from which on those that are 0 in float32 make no difference


def log_softplus(x: Tensor) -> Tensor:
    """log(log(1 + e^x)), which for very negative x is x - e^x / 2 and has to be written so."""
    ordinary = (-logsigmoid(-x.clamp_min(-30))).log()
    return torch.where(x < -30, x - x.clamp_max(-30).exp() / 2, ordinary)


@formula
def normalized_logistic(logits: Tensor, target: Tensor, *, ignore_index: int = -100, reduction: SetReduction = "mean") -> Tensor:
    """The pure function behind :class:`NormalizedLogisticLoss`, with the same parameters."""
    check_element_inputs("normalized_logistic", logits, target)
    if dispatch.take_compiled_loops(logits, target):
        numbers = ignore_index, reduction
        compute, plain = functools.partial(_in_a_loop, *numbers), functools.partial(_plain, *numbers)
        found: Tensor = in_one_pass(compute, plain, logits, target)
        return found
    return _plain(ignore_index, reduction, logits, target)


def _plain(ignore_index: int, reduction: str, logits: Tensor, target: Tensor) -> Tensor:
    kept = ~is_ignored(target, ignore_index) & (logits != -torch.inf)  # a label that is masked is not there
    wide = widen(logits).masked_fill(~kept, 0.0)  # what is ignored may be anything, and 0 times NaN would be NaN
    q = target.to(wide.dtype)
    margins = torch.stack([wide, -wide])  # if the label is 1, and if it is 0
    mass = torch.stack([q, 1 - q]).masked_fill(~kept, 0.0)
    # Both sums become 0 in a batch that is separated well; taken relative to the weights, in log space, they do not.
    log_weights = (mass.log() + logsigmoid(-margins)).detach()
    scale = log_weights.flatten().logsumexp(0)
    nothing = scale == -torch.inf
    scale = scale.masked_fill(nothing, 0.0)
    divisor = (log_weights - scale).exp().sum().masked_fill(nothing, 1.0)  # 1, but for the rounding of the scale
    costs = (log_softplus(-margins) - scale).clamp_max(LARGEST).exp()  # only those without mass are larger
    loss = (mass * costs).sum() / divisor
    return loss * kept.sum() if reduction == "sum" else loss


def _in_a_loop(ignore_index: int, reduction: str, wanted: bool, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor | None]:
    """The loss and its gradient; where everything is separated so well that weights may not fit, by plain operations."""
    from lossary._fast.mathematics import on_threads  # which imports Numba
    from lossary.losses.multilabel import _loops

    given = [flat(x) for x in (logits, target)]
    parts = on_threads(lambda rows: _loops.logistic_sums(*(x[rows] for x in given), ignore_index), logits.numel(), 1)
    costs, weights, kept = (sum(column) for column in zip(*parts, strict=True))
    if kept and not weights > LEAST:
        with torch.enable_grad():
            leaf = logits.detach().requires_grad_()
            value = _plain(ignore_index, reduction, leaf, target)
            return value.detach(), torch.autograd.grad(value, leaf)[0]
    scale = (kept if reduction == "sum" else 1.0) / (weights or 1.0)
    gradient = logits.new_empty(logits.shape) if wanted else None
    if gradient is not None:
        slope, (z, y) = flat(gradient), given

        def go(rows: slice) -> None:
            _loops.logistic_slopes(z[rows], y[rows], ignore_index, scale, slope[rows])

        on_threads(go, logits.numel(), 1)
    return logits.new_tensor(costs * scale), gradient


@objective(
    family="multilabel",
    function=normalized_logistic,
    decomposable=False,
    distributed="inexact",
    value_is_objective=False,  # it tends to 1, not to 0, as everything gets right
)
class NormalizedLogisticLoss(SigmoidObjective):
    r"""The logistic loss over the sum of its error weights, a constant in the gradient: steps do not fade as samples get right.

    .. math::
        \mathcal{L} = \frac{\sum_i \log(1 + e^{-s_i z_i})}{\mathrm{sg}\!\left[\sum_i \sigma(-s_i z_i)\right]}, \qquad
        \frac{\partial \mathcal{L}}{\partial z_i} = -s_i \frac{\sigma(-s_i z_i)}{\sum_j \sigma(-s_j z_j)}, \qquad s = 2y - 1

    where sg stops the gradient. The gradients with respect to the logits have absolute values that sum to one: with plain gradient
    descent and a large rate this is the batch perceptron whose step is the average over the samples that are wrong, however few
    they are. Only the gradient means something: the value tends to 1 once everything is right, so stop when no sample is wrong.
    Adam normalises a second time, which undoes the point. A soft label counts as two samples, with its two masses.

    Args:
        ignore_index: elements whose target has this value are left out.
        reduction: ``"mean"``, the formula above, or ``"sum"``, which is that times the number of elements.
    Shape: logits and target of one shape (N, \*) or (N, L, \*); target in [0, 1].
    Units: none; only the gradient means something.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Tyurin, "From Logistic Regression to the Perceptron Algorithm: Exploring Gradient Descent with Large Step Sizes",
        2024: the normalised method there, written as a loss. A constant factor in its normaliser only rescales the learning rate.

    >>> logits = torch.tensor([3.0, -1.0, 5.0], requires_grad=True)
    >>> NormalizedLogisticLoss()(logits, torch.ones(3)).backward()
    >>> logits.grad
    tensor([-0.0604, -0.9311, -0.0085])
    """

    def __init__(self, *, ignore_index: int = -100, reduction: SetReduction = "mean"):
        super().__init__(ignore_index=ignore_index, reduction=reduction)
