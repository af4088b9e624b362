"""ListNet: the softmax of the scores against that of the relevance."""

import torch
from torch import Tensor

from lossary._core.parameters import Reduction, formula
from lossary._core.registry import objective
from lossary.losses.ranking._common import RankingObjective, average_over_lists, check_lists, log_softmax_of_real, of_whole_lists


@formula
def list_net(scores: Tensor, relevance: Tensor, mask: Tensor | None = None, *, reduction: Reduction = "mean") -> Tensor:
    """The pure function behind :class:`ListNetLoss`, with the same parameters."""
    return of_whole_lists("list_net", _plain, scores, relevance, mask, reduction)


def _plain(reduction: str, scores: Tensor, relevance: Tensor, mask: Tensor | None) -> Tensor:
    lists = check_lists("list_net", scores, relevance, mask)
    target = log_softmax_of_real(lists.relevance, lists.real).exp()
    per_list = -torch.where(lists.real, target * log_softmax_of_real(lists.scores, lists.real), 0.0).sum(1)
    return average_over_lists(per_list, (lists.relevance > 0).any(1), reduction)


@objective(family="ranking", function=list_net, link="ranking", spatial=False)
class ListNetLoss(RankingObjective):
    r"""ListNet: cross-entropy between the softmax of the relevance and that of the scores, over the items of a list.

    .. math:: \ell(s, y) = -\sum_j \mathrm{softmax}(y)_j \log \mathrm{softmax}(s)_j

    The top-one form of the paper, which is what is used. The log-softmax is exact; adding a small number to the softmax
    before the logarithm, as widely used programs do, leaves items that stand far too low without a gradient. Lists without a
    relevant item do not count.

    Args:
        reduction: ``"mean"`` over the lists that count, ``"sum"``, or ``"none"``, where those that do not are 0.
    Shape: scores and relevance (lists, items); mask (lists, items) bool, True for a real item.
        Without a mask, items of negative relevance are padding. Items with a score of -inf never count.
    Units: nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Cao, Qin, Liu, Tsai and Li, "Learning to Rank: From Pairwise Approach to Listwise Approach", 2007.

    >>> ListNetLoss()(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[1, 0, 0]]))
    tensor(1.0434)
    """

    def __init__(self, *, reduction: Reduction = "mean"):
        super().__init__(reduction=reduction)
