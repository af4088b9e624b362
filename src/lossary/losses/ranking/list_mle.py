"""ListMLE: the likelihood of the order of the relevance under the scores."""

import torch
from torch import Tensor

from lossary._core.parameters import Reduction, formula
from lossary._core.registry import objective
from lossary.losses.ranking._common import RankingObjective, average_over_lists, check_lists, of_whole_lists


@formula
def list_mle(scores: Tensor, relevance: Tensor, mask: Tensor | None = None, *, reduction: Reduction = "mean") -> Tensor:
    """The pure function behind :class:`ListMLELoss`, with the same parameters."""
    return of_whole_lists("list_mle", _plain, scores, relevance, mask, reduction)


def _plain(reduction: str, scores: Tensor, relevance: Tensor, mask: Tensor | None) -> Tensor:
    lists = check_lists("list_mle", scores, relevance, mask)
    ascending, order = lists.relevance.detach().masked_fill(~lists.real, torch.inf).sort(1)
    real, sorted_scores = lists.real.gather(1, order), lists.scores.gather(1, order)
    # log of the sum of e^s over the items that are no more relevant, those of equal relevance included: at the last of these
    log_sums = torch.where(real, sorted_scores, -torch.inf).logcumsumexp(1)
    place = torch.arange(order.shape[1], device=order.device).expand_as(order)
    ends = torch.nn.functional.pad(ascending[:, 1:] > ascending[:, :-1], (0, 1), value=True)[:, : order.shape[1]]
    last = torch.where(ends, place, order.shape[1]).flip(1).cummin(1).values.flip(1) if order.shape[1] else place
    per_list = torch.where(real, log_sums.gather(1, last) - sorted_scores, 0.0).sum(1)
    return average_over_lists(per_list, (lists.relevance > 0).any(1), reduction)


@objective(family="ranking", function=list_mle, link="ranking", spatial=False)
class ListMLELoss(RankingObjective):
    r"""ListMLE: minus the log-likelihood, under the scores, of the order that the relevance gives.

    .. math:: \ell(s, y) = \sum_i \left( \log \sum_{j : y_j \le y_i} e^{s_j} - s_i \right)

    The Plackett-Luce model: items are drawn one after the other, each from those that are left. Items of equal relevance have no
    order and all compete with each other, as in Breslow's treatment of ties; other programs put them in random order, which makes
    the loss random, or in the order they come, which teaches that order. Lists without a relevant item do not count.

    Args:
        reduction: ``"mean"`` over the lists that count, ``"sum"``, or ``"none"``, where those that do not are 0.
    Shape: scores and relevance (lists, items); mask (lists, items) bool, True for a real item.
        Without a mask, items of negative relevance are padding. Items with a score of -inf never count.
    Units: nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Xia, Liu, Wang, Zhang and Li, "Listwise Approach to Learning to Rank: Theory and Algorithm", 2008.

    >>> ListMLELoss()(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[2, 1, 0]]))
    tensor(0.7209)
    """

    def __init__(self, *, reduction: Reduction = "mean"):
        super().__init__(reduction=reduction)
