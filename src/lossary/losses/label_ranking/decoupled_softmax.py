"""Decoupled softmax: every right label competes with the wrong ones, and with no other right one."""

import functools
from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from lossary._core.objective import SoftmaxObjective, widen
from lossary._core.parameters import OneOf, Positive, Reduction, formula
from lossary._core.registry import objective
from lossary._fast.lists.rule import Kernel, by_list
from lossary.losses.label_ranking._common import average_over_positives, check_rows_of_labels, positives

PositiveReduction = Annotated[Literal["mean", "sum"], OneOf(("mean", "sum"))]


def logsumexp_where(scores: Tensor, chosen: Tensor) -> Tensor:
    """The log of the sum of exponentials of a row's chosen scores (N, 1); of none it is -inf, with a gradient of zeros."""
    masked = scores.masked_fill(~chosen, -torch.inf)
    largest = masked.detach().amax(1, keepdim=True)
    none = largest == -torch.inf
    total = (masked - largest.masked_fill(none, 0.0)).exp().sum(1, keepdim=True)
    return (largest + total.masked_fill(none, 1.0).log()).masked_fill(none, -torch.inf)


def _plain(temperature: float, logits: Tensor, positive: Tensor) -> Tensor:
    """The sum of log(e^s + sum of the negatives) - s over the positive labels of each row (N,)."""
    scores = logits / temperature
    of_label = -logsigmoid(scores.masked_fill(~positive, 0.0) - logsumexp_where(scores, ~positive))
    return of_label.masked_fill(~positive, 0.0).sum(1)


def _kernel(temperature: float) -> Kernel:
    from lossary.losses.label_ranking import _loops  # which imports Numba

    def kernel(logits: Tensor, positive: Tensor, wanted: bool) -> tuple[Tensor, Tensor]:
        value, gradient = logits.new_empty(len(logits)), logits.new_empty(logits.shape if wanted else (0, logits.shape[1]))
        arrays = [x.detach().numpy() for x in (logits, positive, value, gradient)]
        _loops.in_rows(_loops.decoupled_softmax, *arrays, 1 / temperature)
        return value, gradient

    return kernel


@formula
def decoupled_softmax(
    logits: Tensor,
    target: Tensor,
    *,
    temperature: Positive = 1.0,
    positive_reduction: PositiveReduction = "mean",
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`DecoupledSoftmaxLoss`, with the same parameters."""
    check_rows_of_labels("decoupled_softmax", logits, target)
    positive = positives(logits, target)
    plain, kernel = functools.partial(_plain, temperature), functools.partial(_kernel, temperature)
    per_row = by_list(plain, kernel, widen(logits), positive, degree=1)
    return average_over_positives(per_row, positive.sum(1), positive_reduction, reduction)


@objective(family="label_ranking", function=decoupled_softmax, spatial=False, link="ranking", tune={"temperature": (0.05, 2.0)})
class DecoupledSoftmaxLoss(SoftmaxObjective):
    r"""Decoupled softmax: each positive label against the negative ones alone.

    .. math::
        \ell(z, P) = \frac{1}{|P|} \sum_{l \in P} \left[\log\!\Big(e^{s_l} + \sum_{j \notin P} e^{s_j}\Big) - s_l\right],
        \qquad s = z / \tau

    In an ordinary softmax over several right labels each of them pushes the others down; here none touches the term of another.
    With one positive label it is cross-entropy (InfoNCE). Nothing larger than the logits is made, as the negatives of a row are
    summed up once. Programs that mask scores with -100 are wrong for scores below it; any finite ones will do here.

    For two encoders the logits are ``normalize(queries) @ normalize(labels).T``, and the usual temperature is 0.05.

    Args:
        temperature: divides the logits.
        positive_reduction: ``"mean"`` over the positive labels of a row as in the authors' program, or ``"sum"`` as in the paper.
        reduction: over the rows; ``"none"`` has a value for each, 0 for a row without positive labels, which no mean counts.
    Shape: logits and target (N, L); a label is positive where its target is above 0, and not there where its logit is -inf.
    Units: nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Gupta, Khatri, Rawat, Bhojanapalli, Jain and Dhillon, "Dual-Encoders for Extreme Multi-Label Classification", 2023.

    >>> DecoupledSoftmaxLoss()(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[1, 1, 0]]))
    tensor(0.2201)
    """

    temperature: float

    def __init__(
        self,
        *,
        temperature: Positive = 1.0,
        positive_reduction: PositiveReduction = "mean",
        reduction: Reduction = "mean",
    ):
        super().__init__(temperature=temperature, positive_reduction=positive_reduction, reduction=reduction)

    def link(self, output: Tensor) -> Tensor:
        return (output / self.temperature).softmax(1)
