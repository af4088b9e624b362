"""Mean average precision at R of a retrieval by embeddings."""

import torch
from torch import Tensor

from lossary._core.parameters import checked
from lossary._core.registry import unit
from lossary.metrics._pairwise import check_labelled, class_sizes, finish, heads


@unit(kind="diagnostic", declares={"bounds": (0.0, 1.0), "perfect": 1.0, "empty": 0.0})
@checked("mean_average_precision_at_r")
def mean_average_precision_at_r(embedding: Tensor, labels: Tensor) -> Tensor:
    r"""Mean average precision at R: how much of a class stands at the head of its samples' lists, and how far ahead.

    .. math:: \frac{1}{|Q|} \sum_{i \in Q} \frac{1}{R_i} \sum_{k=1}^{R_i} [y_{\pi_i(k)} = y_i] \;
        \frac{1}{k} \sum_{m=1}^{k} [y_{\pi_i(m)} = y_i]

    where R is the number of other samples of the class and pi the order by cosine. Q are the samples whose class has another
    one. Recall at 1 does not tell whether anything follows the nearest neighbour; this does. Neighbours of the same cosine, up to
    rounding errors, count for what they are worth on average over their orders. It works on blocks of rows.

    Args:
        embedding: of the samples.
        labels: their classes.
    Shape: embedding (N, D); labels (N,) integers; the result is a scalar, 0 if there is nobody to ask,
        NaN if any number of the embedding is NaN.
    Units: a share, 1 if every class stands at the head of all of its lists.
    Errors: a shape or dtype other than these is a ``LossaryError``.
    Source: Musgrave, Belongie and Lim, "A Metric Learning Reality Check", 2020.

    >>> mean_average_precision_at_r(torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.7, 0.3]]), torch.tensor([0, 0, 1, 1]))
    tensor(0.7500)
    """
    check_labelled("mean_average_precision_at_r", embedding, labels)
    _, of_sample, count = class_sizes(labels)
    others = count[of_sample] - 1
    most = int(others.max()) if len(others) else 0
    precision = torch.zeros(len(labels), device=labels.device)
    position = torch.arange(1, most + 1, device=labels.device)
    for rows, near in heads(embedding, labels, most):
        # In random order, an item of a group is relevant with this chance, and then finds so many relevant ones up to itself.
        chance = near.relevant / near.size
        ahead = (position - near.before - 1) * (near.relevant - 1) / (near.size - 1).clamp_min(1)
        expected = chance * (near.relevant_before + 1 + ahead) / position
        counts = position <= others[rows, None]
        precision[rows] = expected.masked_fill(~counts, 0.0).sum(1) / others[rows].clamp_min(1)
    return finish(precision.sum() / (others > 0).sum().clamp_min(1), embedding)
