"""RankNet: of two items, the more relevant one should have the higher score."""

from torch import Tensor

from lossary._core.parameters import Positive, Reduction, formula
from lossary._core.registry import objective
from lossary.losses.ranking._common import RankingObjective, average_over_lists, check_lists, pairs_in_order
from lossary.losses.ranking._pairs import Weights, logistic_pairs


@formula
def rank_net(
    scores: Tensor, relevance: Tensor, mask: Tensor | None = None, *, sigma: Positive = 1.0, reduction: Reduction = "mean"
) -> Tensor:
    """The pure function behind :class:`RankNetLoss`, with the same parameters."""
    lists = check_lists("rank_net", scores, relevance, mask)
    pairs = pairs_in_order(lists)
    total = logistic_pairs(lists, lists.relevance, Weights(by_gain=False), sigma)
    return average_over_lists(total / pairs.clamp_min(1), pairs > 0, reduction)


@objective(family="ranking", function=rank_net, link="ranking", spatial=False, tune={"sigma": (0.1, 10.0)})
class RankNetLoss(RankingObjective):
    r"""RankNet: a logistic regression on every pair of items of which one is more relevant.

    .. math:: \ell(s, y) = \frac{1}{|\mathcal P|} \sum_{(i, j) \in \mathcal P} \log\left(1 + e^{-\sigma (s_i - s_j)}\right),
        \qquad \mathcal P = \{(i, j) : y_i > y_j\}

    A list is the mean of its pairs, so that long lists weigh no more than short ones, and a batch the mean of its lists. Other
    programs take one mean over the pairs of the whole batch. Lists without such a pair do not count. No n x n matrix is kept.

    Args:
        sigma: how steep the logistic loss is.
        reduction: ``"mean"`` over the lists that count, ``"sum"``, or ``"none"``, where those that do not are 0.
    Shape: scores and relevance (lists, items); mask (lists, items) bool, True for a real item.
        Without a mask, items of negative relevance are padding. Items with a score of -inf never count.
    Units: nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Burges et al., "Learning to Rank using Gradient Descent", 2005.

    >>> RankNetLoss()(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[1, 0, 0]]))
    tensor(0.2201)
    """

    def __init__(self, *, sigma: Positive = 1.0, reduction: Reduction = "mean"):
        super().__init__(sigma=sigma, reduction=reduction)
