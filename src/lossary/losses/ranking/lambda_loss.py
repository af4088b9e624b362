"""LambdaLoss: pairs weighted by what a swap would do to NDCG."""

import math
from typing import Annotated, Literal

from torch import Tensor

from lossary._core.parameters import NonNegative, OneOf, Positive, PositiveCount, Reduction, formula
from lossary._core.registry import objective
from lossary.losses.ranking._common import (
    RankingObjective,
    average_over_lists,
    check_lists,
    gains_and_ideal,
    of_ideal,
    pairs_in_order,
)
from lossary.losses.ranking._pairs import Weights, logistic_pairs

Weighing = Annotated[Literal["ndcg_loss2++", "ndcg_loss2", "lambda_rank"], OneOf(("ndcg_loss2++", "ndcg_loss2", "lambda_rank"))]


@formula
def lambda_loss(
    scores: Tensor,
    relevance: Tensor,
    mask: Tensor | None = None,
    *,
    weighing: Weighing = "ndcg_loss2++",
    mu: NonNegative = 10.0,
    sigma: Positive = 1.0,
    k: PositiveCount | None = None,
    exponential_gain: bool = True,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`LambdaLoss`, with the same parameters."""
    lists = check_lists("lambda_loss", scores, relevance, mask)
    gain, ideal = gains_and_ideal(lists, exponential_gain, k)
    of_distance, of_discounts = {"ndcg_loss2++": (mu, 1.0), "ndcg_loss2": (1.0, 0.0), "lambda_rank": (0.0, 1.0)}[weighing]
    nats = logistic_pairs(lists, gain, Weights(of_distance, of_discounts, k=k), sigma)
    return average_over_lists(of_ideal(nats, ideal) / math.log(2), pairs_in_order(lists) > 0, reduction)


@objective(family="ranking", function=lambda_loss, link="ranking", spatial=False, tune={"mu": (1.0, 30.0), "sigma": (0.1, 10.0)})
class LambdaLoss(RankingObjective):
    r"""LambdaLoss: RankNet with each pair weighted by what a swap of the two would do to NDCG.

    .. math:: \ell(s, y) = \sum_{y_i > y_j} (\mu\delta_{ij} + \rho_{ij}) (G_i - G_j) \log_2\left(1 + e^{-\sigma (s_i - s_j)}\right)

    with gains G = (2^y - 1) / IDCG@k, the discount d(r) = 1 / log2(1 + r), ranks r by score,
    :math:`\delta_{ij} = d(|r_i - r_j|) - d(|r_i - r_j| + 1)` and :math:`\rho_{ij} = |d(r_i) - d(r_j)|`. This is NDCG-Loss2++, which
    the paper finds best; with delta alone it is NDCG-Loss2, with rho alone the LambdaRank of LambdaMART. Items of equal scores rank
    as they come, and ranks are constants to the gradient. Lists in which all items have one relevance do not count. No n x n
    matrix is kept.

    Args:
        weighing: ``"ndcg_loss2++"``, ``"ndcg_loss2"`` or ``"lambda_rank"``.
        mu: how much delta counts beside rho in NDCG-Loss2++.
        sigma: how steep the logistic loss is.
        k: pairs with an item among the first k ranks, as NDCG@k asks for; all of them by default. Programs that want both there
            never lift a relevant item from below.
        exponential_gain: whether the gain is 2^relevance - 1, or the relevance itself.
        reduction: ``"mean"`` over the lists that count, ``"sum"``, or ``"none"``, where those that do not are 0.
    Shape: scores and relevance (lists, items); mask (lists, items) bool, True for a real item.
        Without a mask, items of negative relevance are padding. Items with a score of -inf never count.
    Units: bits, weighted.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Wang, Li, Golbandi, Bendersky and Najork, "The LambdaLoss Framework for Ranking Metric Optimization", 2018.

    >>> LambdaLoss()(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[0, 0, 1]]))
    tensor(12.7924)
    """

    def __init__(
        self,
        *,
        weighing: Weighing = "ndcg_loss2++",
        mu: NonNegative = 10.0,
        sigma: Positive = 1.0,
        k: PositiveCount | None = None,
        exponential_gain: bool = True,
        reduction: Reduction = "mean",
    ):
        super().__init__(weighing=weighing, mu=mu, sigma=sigma, k=k, exponential_gain=exponential_gain, reduction=reduction)
