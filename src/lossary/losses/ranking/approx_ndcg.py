"""ApproxNDCG: NDCG with ranks that are smooth counts of the items above."""

import functools
import math

import torch
from torch import Tensor

from lossary._core.parameters import Positive, Reduction, formula
from lossary._core.registry import objective
from lossary._fast.lists.rule import Kernel, by_list
from lossary.losses.ranking._common import RankingObjective, average_over_lists, check_lists, gains_and_ideal, of_ideal


@formula
def approx_ndcg(
    scores: Tensor,
    relevance: Tensor,
    mask: Tensor | None = None,
    *,
    alpha: Positive = 10.0,
    exponential_gain: bool = True,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`ApproxNDCGLoss`, with the same parameters."""
    lists = check_lists("approx_ndcg", scores, relevance, mask)
    gain, ideal = gains_and_ideal(lists, exponential_gain)
    plain = functools.partial(_plain, alpha)
    per_list = by_list(plain, functools.partial(_kernel, alpha), lists.scores, gain, lists.real)
    return average_over_lists(of_ideal(per_list, ideal), ideal > 0, reduction)


def _plain(alpha: float, scores: Tensor, gain: Tensor, real: Tensor) -> Tensor:
    above = (alpha * (scores.unsqueeze(1) - scores.unsqueeze(2))).sigmoid()  # item j above item i, in [i, j]
    others = real.unsqueeze(1) & ~torch.eye(scores.shape[1], dtype=torch.bool, device=scores.device)
    rank = 1 + torch.where(others, above, 0.0).sum(2)
    return -(gain * math.log(2) / rank.log1p()).sum(1)


def _kernel(alpha: float) -> Kernel:
    from lossary._fast.lists import loops as lists_loops

    def kernel(scores: Tensor, gain: Tensor, real: Tensor, wanted: bool) -> tuple[Tensor, Tensor]:
        value, gradient = scores.new_empty(len(scores)), scores.new_zeros(scores.shape if wanted else (0, scores.shape[1]))
        lists_loops.approximate_ndcg(*(x.detach().numpy() for x in (scores, gain, real, value, gradient)), alpha)
        return value, gradient

    return kernel


@objective(family="ranking", function=approx_ndcg, link="ranking", spatial=False, saturates=True, tune={"alpha": (0.3, 30.0)})
class ApproxNDCGLoss(RankingObjective):
    r"""ApproxNDCG: minus NDCG, with a smooth count of the items above as the rank of each item.

    .. math:: \ell(s, y) = -\frac{1}{\mathrm{IDCG}} \sum_i \frac{g_i}{\log_2(1 + \hat r_i)}, \qquad
        \hat r_i = 1 + \sum_{j \ne i} \frac{1}{1 + e^{\alpha (s_i - s_j)}}, \qquad g = 2^y - 1

    As alpha grows it tends to minus NDCG, with items of equal scores half above each other. Lists without a relevant item do not
    count. No n x n matrix is kept.

    Args:
        alpha: how sharply items are counted; what it should be depends on how far scores part.
        exponential_gain: whether the gain is 2^relevance - 1, or the relevance itself.
        reduction: ``"mean"`` over the lists that count, ``"sum"``, or ``"none"``, where those that do not are 0.
    Shape: scores and relevance (lists, items); mask (lists, items) bool, True for a real item.
        Without a mask, items of negative relevance are padding. Items with a score of -inf never count.
    Units: minus a share of the ideal gain, in [-1, 0].
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Qin, Liu and Li, "A General Approximation Framework for Direct Optimization of Information Retrieval Measures", 2010;
        the default alpha is that of Bruch, Zoghi, Bendersky and Najork, "Revisiting Approximate Metric Optimization in the Age of
        Deep Neural Networks", 2019.

    >>> ApproxNDCGLoss(alpha=1.0)(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[0, 0, 1]]))
    tensor(-0.5397)
    """

    def __init__(self, *, alpha: Positive = 10.0, exponential_gain: bool = True, reduction: Reduction = "mean"):
        super().__init__(alpha=alpha, exponential_gain=exponential_gain, reduction=reduction)
