"""Utilization: how near the training embeddings come to what is asked."""

import torch
from torch import Tensor

from lossary._core.objective import widen
from lossary._core.parameters import checked
from lossary._core.registry import unit
from lossary._fast.pairs.rule import similarities
from lossary.errors import InvalidValueError
from lossary.metrics._pairwise import check_rows


@unit(kind="diagnostic")
@checked("utilization")
def utilization(queries: Tensor, bank: Tensor) -> Tensor:
    r"""The mean squared distance of queries to the nearest point of a bank: how much of the space the bank leaves empty.

    .. math:: \frac1N \sum_i \min_j \lVert q_i - b_j \rVert^2

    Lower is better. More points in the bank can only lower it, so that it compares banks of one size. It works on blocks of rows.

    Args:
        queries: embeddings of what is asked, such as test samples.
        bank: embeddings of what there is, such as training samples, mixed ones included.
    Shape: queries (N, D); bank (M, D), not empty; the result is a scalar, 0 without queries.
    Units: squared distances.
    Errors: a shape or dtype other than these is a ``LossaryError``.
    Source: Venkataramanan, Psomas, Kijak, Amsaleg, Karantzalos and Avrithis, "It Takes Two to Tango: Mixup for Deep Metric
        Learning", 2021.

    >>> utilization(torch.tensor([[0.0, 0.0], [3.0, 4.0]]), torch.tensor([[0.0, 1.0], [3.0, 0.0]]))
    tensor(8.5000)
    """
    check_rows("utilization", "queries", queries)
    check_rows("utilization", "bank", bank)
    if bank.shape[1] != queries.shape[1] or not len(bank):
        raise InvalidValueError(f"utilization: bank must have shape (M, {queries.shape[1]}) with M > 0, got {tuple(bank.shape)}")
    q, b = widen(queries), widen(bank)
    nearest = torch.zeros(len(q), dtype=torch.int64, device=q.device)
    half = b.detach().square().sum(1) / 2
    for rows, s in similarities(q, b) if len(q) else ():
        nearest[rows] = s.sub_(half).argmax(1)
    return (q - b[nearest]).square().sum(1).sum() / max(len(q), 1)
