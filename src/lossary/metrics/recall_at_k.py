"""Recall at k of a retrieval by embeddings."""

import torch
from torch import Tensor

from lossary._core.parameters import PositiveCount, checked
from lossary._core.registry import unit
from lossary.metrics._expectation import exact, log_choices
from lossary.metrics._pairwise import check_labelled, class_sizes, finish, heads


@unit(kind="diagnostic", declares={"bounds": (0.0, 1.0), "perfect": 1.0, "empty": 0.0})
@checked("recall_at_k")
def recall_at_k(embedding: Tensor, labels: Tensor, k: PositiveCount = 1) -> Tensor:
    r"""How often one of the k nearest neighbours is of the same class.

    .. math:: \frac{1}{|Q|} \sum_{i \in Q} \max_{j \in \mathrm{NN}_k(i)} [y_j = y_i]

    Every sample asks for all others, by cosine. Q are the samples whose class has another one; some programs count the others as
    failures. Neighbours of the same cosine, up to rounding errors, count for what they are worth on average over their orders:
    with b neighbours ahead of t such ones, of which r are of the class, the chance of a hit is

    .. math:: 1 - \binom{t - r}{k - b} \Big/ \binom{t}{k - b}

    unless one of the b is a hit. It works on blocks of rows, so that 60,000 samples take seconds and no matrix of all pairs.

    Args:
        embedding: of the samples.
        labels: their classes.
        k: how many neighbours are looked at.
    Shape: embedding (N, D); labels (N,) integers; the result is a scalar, 0 if there is nobody to ask,
        NaN if any number of the embedding is NaN.
    Units: a share of the samples.
    Errors: a shape or dtype other than these, or a k below 1, is a ``LossaryError``.
    Source: Jegou, Douze and Schmid, "Product Quantization for Nearest Neighbor Search", 2011, as is usual in metric learning.

    >>> recall_at_k(torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.7, 0.3]]), torch.tensor([0, 0, 1, 1]))
    tensor(0.7500)
    """
    check_labelled("recall_at_k", embedding, labels)
    _, of_sample, count = class_sizes(labels)
    asking, within = count[of_sample] > 1, min(k, max(len(labels) - 1, 0))
    last = torch.ones(4, len(labels), dtype=torch.int64, device=labels.device)  # the group of ties at the last neighbour
    for rows, near in heads(embedding, labels, within):
        for mine, each in zip(last, near[1:], strict=True):
            mine[rows] = each[:, -1]
    before, hits, size, relevant = exact(last)
    drawn, others = within - before, size - relevant
    log_miss = log_choices(others, drawn.minimum(others)) - log_choices(size, drawn.minimum(size))
    missed = torch.where((hits > 0) | (drawn > others), 0.0, log_miss.exp())
    asking = asking.to(missed.device)
    return finish((1 - missed).masked_fill(~asking, 0.0).sum() / asking.sum().clamp_min(1), embedding)
