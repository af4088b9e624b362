"""Mean reciprocal rank: how far down each list the first relevant item stands."""

import torch
from torch import Tensor

from lossary._core.objective import double_dtype
from lossary._core.parameters import PositiveCount, Reduction, checked
from lossary._core.registry import unit
from lossary.metrics._expectation import exact, log_choices
from lossary.metrics._ranking import finish, ranked


@unit(kind="diagnostic", declares={"bounds": (0.0, 1.0), "perfect": 1.0, "empty": 0.0})
@checked("mean_reciprocal_rank")
def mean_reciprocal_rank(
    scores: Tensor,
    relevance: Tensor,
    k: PositiveCount | None = None,
    mask: Tensor | None = None,
    *,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""The reciprocal of the first relevant item's rank, averaged over lists.

    .. math:: \mathrm{MRR@}k = \frac1L \sum_l \frac{[r_l \le k]}{r_l}

    where r is the rank of the first item whose relevance is above 0. Items of equal scores are worth what they are on average over
    their orders. Lists without a relevant item do not count. A list with a score or a relevance that is NaN is NaN.

    Args:
        scores: what the model gives each item, higher is better.
        relevance: graded or binary relevance; above 0 is relevant.
        k: how many items are looked at; all of them by default.
        mask: True for a real item, False for padding, which may stand anywhere; by default items of negative relevance
            are padding.
        reduction: ``"mean"`` over the lists that count, ``"sum"``, or ``"none"``, where those that do not are 0.
    Shape: scores, relevance and mask (lists, items); the result is a scalar, or (lists,). No list that counts gives 0.
    Units: a reciprocal rank, in [0, 1].
    Errors: a shape or dtype other than these, or a k below 1, is a ``LossaryError``.
    Source: Voorhees, "The TREC-8 Question Answering Track Report", 1999.

    >>> mean_reciprocal_rank(torch.tensor([[3.0, 2.0, 1.0], [1.0, 0.0, 0.0]]), torch.tensor([[0, 1, 0], [1, 0, 0]]))
    tensor(0.7500)
    """
    items = ranked("mean_reciprocal_rank", scores, relevance, mask)
    relevant = items.relevance > 0
    counts = relevant.any(1)
    first = relevant.long().argmax(1, keepdim=True) if scores.shape[1] else relevant.long()
    among = (items.group == items.group.gather(1, first)) & items.real  # of the same score as the first relevant item
    before = among.long().argmax(1, keepdim=True) if scores.shape[1] else first
    size, right = (exact(chosen.sum(1, keepdim=True)) for chosen in (among, among & relevant))
    # In random order, the first of the relevant items is the t-th with chance C(size - t, right - 1) / C(size, right).
    rank = torch.arange(1, scores.shape[1] + 1, dtype=size.dtype, device=size.device)
    t = rank - before.to(size.device)
    possible = (t >= 1) & (t <= size - right + 1)
    t = torch.where(possible, t, 1.0)
    chance = (log_choices(size - t, right - 1) - log_choices(size, right)).exp()
    looked_at = possible if k is None else possible & (rank <= k)
    per_list = torch.where(looked_at, chance / rank, 0.0).sum(1).to(scores.device, double_dtype(scores.device))
    return finish(per_list, counts, items, scores.dtype, reduction)
