"""NDCG at k: how much of the best possible gain stands at the head of each list."""

import torch
from torch import Tensor

from lossary._core.parameters import PositiveCount, Reduction, checked
from lossary._core.registry import unit
from lossary.metrics._ranking import finish, ranked


@unit(kind="diagnostic", declares={"bounds": (0.0, 1.0), "perfect": 1.0, "empty": 0.0})
@checked("ndcg_at_k")
def ndcg_at_k(
    scores: Tensor,
    relevance: Tensor,
    k: PositiveCount | None = None,
    mask: Tensor | None = None,
    *,
    exponential_gain: bool = True,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Normalised discounted cumulative gain of the first k items.

    .. math:: \mathrm{NDCG@}k = \frac{\sum_{i \le k} g_{\pi(i)} / \log_2(1 + i)}{\sum_{i \le k} g_{\pi^*(i)} / \log_2(1 + i)},
        \qquad g = 2^{\mathrm{relevance}} - 1

    where the order pi is that of the scores and pi* that of the relevance. Items of equal scores are worth what they are on average
    over their orders, so that constant scores are no perfect ranking, whatever order the items come in. Lists without a
    relevant item do not count; programs that give them 1 flatter every model. A list with a score or a relevance that
    is NaN is NaN.

    Args:
        scores: what the model gives each item, higher is better.
        relevance: graded relevance, 0 and above.
        k: how many items are looked at; all of them by default.
        mask: True for a real item, False for padding, which may stand anywhere; by default items of negative relevance
            are padding.
        exponential_gain: whether the gain is 2^relevance - 1, as is usual, or the relevance itself, as in scikit-learn.
        reduction: ``"mean"`` over the lists that count, ``"sum"``, or ``"none"``, where those that do not are 0.
    Shape: scores, relevance and mask (lists, items); the result is a scalar, or (lists,). No list that counts gives 0.
    Units: a share of the best possible gain, in [0, 1].
    Errors: a shape or dtype other than these, or a k below 1, is a ``LossaryError``.
    Source: Jarvelin and Kekalainen, "Cumulated Gain-Based Evaluation of IR Techniques", 2002; equal scores as in McSherry and
        Najork, "Computing Information Retrieval Performance Measures Efficiently in the Presence of Tied Scores", 2008.

    >>> ndcg_at_k(torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([[0, 1, 2]]), k=2)
    tensor(0.1738)
    """
    items = ranked("ndcg_at_k", scores, relevance, mask)
    gain = torch.exp2(items.relevance) - 1 if exponential_gain else items.relevance
    size = scores.shape[1]
    discount = 1 / torch.log2(torch.arange(2, size + 2, dtype=gain.dtype, device=scores.device))
    if k is not None:
        discount[k:] = 0.0
    # every item of a group of equal scores has the group's average discount
    none = gain.new_zeros(gain.shape)
    of_group = none.scatter_add(1, items.group, discount.expand_as(gain))
    members = none.scatter_add(1, items.group, torch.ones_like(gain))
    gained = (gain * (of_group / members.clamp_min(1)).gather(1, items.group)).sum(1)
    best = (gain.sort(1, descending=True).values * discount).sum(1)
    return finish(gained / torch.where(best > 0, best, 1.0), best > 0, items, scores.dtype, reduction)
