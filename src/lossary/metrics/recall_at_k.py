"""Recall at k of a retrieval by embeddings."""

import torch
from torch import Tensor

from lossary._domains import PositiveCount, checked
from lossary._registry import unit
from lossary.metrics._pairwise import check_labelled, class_sizes, of_cosines


@unit(kind="diagnostic")
@checked("recall_at_k")
def recall_at_k(embedding: Tensor, labels: Tensor, k: PositiveCount = 1) -> Tensor:
    r"""How often one of the k nearest neighbours is of the same class.

    .. math:: \frac{1}{|Q|} \sum_{i \in Q} \max_{j \in \mathrm{NN}_k(i)} [y_j = y_i]

    Every sample asks for all others, by cosine, and Q are the samples whose class has another one: nobody can answer the others,
        which some
    programs count as failures. It works on blocks of rows, so that 60,000 samples take seconds and no matrix of all pairs.

    Args:
        embedding: of the samples.
        labels: their classes.
        k: how many neighbours are looked at.
    Shape: embedding (N, D); labels (N,) integers; the result is a scalar, 0 if there is nobody to ask.
    Units: a share of the samples.
    Errors: a shape or dtype other than these, or a k below 1, is a ``LossaryError``.
    Source: Jegou, Douze and Schmid, "Product Quantization for Nearest Neighbor Search", 2011, as is usual in metric learning.

    >>> recall_at_k(torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.7, 0.3]]), torch.tensor([0, 0, 1, 1]))
    tensor(0.7500)
    """
    check_labelled("recall_at_k", embedding, labels)
    _, of_sample, count = class_sizes(labels)
    asking, found = count[of_sample] > 1, torch.zeros(len(labels), dtype=torch.bool, device=labels.device)
    for rows, s in of_cosines(embedding):
        nearest = s.topk(min(k, s.shape[1] - 1), 1).indices
        found[rows] = (labels[nearest] == labels[rows, None]).any(1)
    return (found & asking).sum() / asking.sum().clamp_min(1)
