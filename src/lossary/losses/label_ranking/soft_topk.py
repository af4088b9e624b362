"""Soft top-k: right labels should be among the first k, where membership adds up to k."""

import functools
import math
from typing import Annotated, Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from lossary._core.objective import SigmoidObjective, widen
from lossary._core.parameters import Interval, Positive, PositiveCount, Reduction, formula
from lossary._core.registry import objective
from lossary._fast.lists.rule import Kernel, by_list
from lossary.losses.label_ranking._common import average_over_positives, check_rows_of_labels, positives

Halvings = Annotated[int, Interval(low=16, whole=True)]
FAR = 240.0  # below the lowest score; e^(-FAR / 2) is nothing
GAP = 60.0  # e^(-GAP / 2) is nothing beside 1, and not yet 0 in float32


def threshold(scores: Tensor, first: Tensor, n_iter: int) -> Tensor:
    """The u (N, 1) with sum sigmoid(scores + u) = k in each row, where ``first`` are the places of the k + 1 highest scores,
    in descending order, and the k-th score is 0."""
    k, rest = first.shape[1] - 1, scores.shape[1] - first.shape[1] + 1
    above = scores.gather(1, first)
    above, highest_below = above[:, :k], above[:, k:]
    # As 1 - sigmoid(x) = sigmoid(-x), what the first k lack has to be what the others have: two sums that can be small and
    # keep their digits. Should both be 0, because the scores part further than exponentials reach, they can be drawn together.
    excess = (highest_below + GAP).clamp_max(0.0)
    below = (scores - excess).scatter(1, first[:, :k], -torch.inf)
    middle = (excess - highest_below) / 2
    low, high = middle - math.log(rest), middle + math.log(k)
    for _ in range(n_iter):
        u = (low + high) / 2
        too_high = (below + u).sigmoid_().sum(1, keepdim=True) > (-above - u).sigmoid_().sum(1, keepdim=True)
        low, high = torch.where(too_high, low, u), torch.where(too_high, u, high)
    u = (low + high) / 2
    for _ in range(2):  # Newton's steps, which leave nothing but rounding
        have, lack = (below + u).sigmoid_(), (-above - u).sigmoid_()
        slope = (have * (1 - have)).sum(1, keepdim=True) + (lack * (1 - lack)).sum(1, keepdim=True)
        u = u - (have.sum(1, keepdim=True) - lack.sum(1, keepdim=True)) / slope
    return u - excess / 2


class _Threshold(torch.autograd.Function):
    """:func:`threshold`, with its derivative by the implicit function theorem, backwards and forwards."""

    generate_vmap_rule = True

    @staticmethod
    def forward(scores: Tensor, first: Tensor, n_iter: int) -> Tensor:
        return threshold(scores, first, n_iter)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0], output)
        ctx.save_for_forward(inputs[0], output)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None]:
        return -upstream[0] * _shares(*ctx.saved_tensors), None, None

    @staticmethod
    def jvp(ctx: Any, along: Tensor, *_: None) -> Tensor:
        return -(along * _shares(*ctx.saved_tensors)).sum(1, keepdim=True)


def _shares(scores: Tensor, u: Tensor) -> Tensor:
    """The share of each label (N, L) in the slope of the sum of memberships, in log space, where no slope is 0."""
    return (logsigmoid(scores + u) + logsigmoid(-scores - u)).softmax(1)


def membership(logits: Tensor, k: int, alpha: float, temperature: float, n_iter: int) -> Tensor:
    """The logits of being among the first k: alpha (s + t) (N, L), whose sigmoids sum to k in each row."""
    scores = widen(logits) * (alpha / temperature)
    absent = scores == -torch.inf
    lowest = scores.detach().masked_fill(absent, torch.inf).amin(1, keepdim=True)
    scores = torch.where(absent, lowest.masked_fill(lowest == torch.inf, 0.0) - FAR, scores)
    highest, first = scores.detach().topk(k + 1, dim=1)
    scores = scores - highest[:, k - 1 : k]  # from the k-th score, near which digits matter
    u: Tensor = _Threshold.apply(scores, first, n_iter)  # type: ignore[no-untyped-call]
    return scores + u


def _plain(k: int, scale: float, n_iter: int, logits: Tensor, positive: Tensor) -> Tensor:
    """The sum over the positive labels of each row (N,)."""
    return -logsigmoid(membership(logits, k, scale, 1.0, n_iter)).masked_fill(~positive, 0.0).sum(1)


def _kernel(k: int, scale: float, n_iter: int) -> Kernel:
    from lossary.losses.label_ranking import _loops  # which imports Numba

    def kernel(logits: Tensor, positive: Tensor, wanted: bool) -> tuple[Tensor, Tensor]:
        value, gradient = logits.new_empty(len(logits)), logits.new_empty(logits.shape if wanted else (0, logits.shape[1]))
        arrays = [x.detach().numpy() for x in (logits, positive, value, gradient)]
        _loops.in_rows(_loops.soft_topk, *arrays, k, scale, n_iter)
        return value, gradient

    return kernel


@formula
def soft_topk(
    logits: Tensor,
    target: Tensor,
    *,
    k: PositiveCount = 5,
    alpha: Positive = 2.0,
    temperature: Positive = 1.0,
    n_iter: Halvings = 32,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`SoftTopkLoss`, with the same parameters."""
    check_rows_of_labels("soft_topk", logits, target, above=k)
    positive, scale = positives(logits, target), alpha / temperature
    plain, kernel = functools.partial(_plain, k, scale, n_iter), functools.partial(_kernel, k, scale, n_iter)
    per_row = by_list(plain, kernel, widen(logits), positive, degree=1, work=2)
    return average_over_positives(per_row, positive.sum(1), "mean", reduction)


@objective(
    family="label_ranking",
    function=soft_topk,
    spatial=False,
    link="ranking",
    saturates=True,  # a wrong label that is far up is not pulled down; a right one that is missing is always pulled up
    tune={"alpha": (0.5, 10.0)},
)
class SoftTopkLoss(SigmoidObjective):
    r"""Soft top-k: positive labels should be among the first k, whose soft membership adds up to k.

    .. math::
        \ell(z, P) = -\frac{1}{|P|} \sum_{l \in P} \log \sigma(\alpha (s_l + t)), \qquad
        t: \; \sum_l \sigma(\alpha (s_l + t)) = k, \qquad s = z / \tau

    The gradient goes through t exactly, by the implicit function theorem, however often it is taken. The threshold is found by
    halving an interval that is known to hold it for scores of any size, and polished to rounding. There have to be more than k
    labels. ``link`` is the soft membership, which sums to k: a ranking, no probabilities.

    Args:
        k: how many labels will be shown.
        alpha: how hard the selection is; large ones approach the k highest scores.
        temperature: divides the logits.
        n_iter: halvings of the interval of the threshold, at least 16.
        reduction: over the rows; ``"none"`` has a value for each, 0 for a row without positive labels, which no mean counts.
    Shape: logits and target (N, L) with L > k; a label is positive where its target is above 0, and not there where its
        logit is -inf.
    Units: nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Gupta, Khatri, Rawat, Bhojanapalli, Jain and Dhillon, "Dual-Encoders for Extreme Multi-Label Classification", 2023.

    >>> SoftTopkLoss(k=1)(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[1, 0, 0]]))
    tensor(0.3437)
    """

    k: int
    alpha: float
    temperature: float
    n_iter: int

    def __init__(
        self,
        *,
        k: PositiveCount = 5,
        alpha: Positive = 2.0,
        temperature: Positive = 1.0,
        n_iter: Halvings = 32,
        reduction: Reduction = "mean",
    ):
        super().__init__(k=k, alpha=alpha, temperature=temperature, n_iter=n_iter, reduction=reduction)

    def link(self, output: Tensor) -> Tensor:
        member = membership(output, self.k, self.alpha, self.temperature, self.n_iter).sigmoid()
        return member.masked_fill(output == -torch.inf, 0.0)
