"""How well the nearest neighbours of embeddings, by cosine, are of the same class."""

import torch
from torch import Tensor


def _alike(embedding: Tensor, labels: Tensor) -> Tensor:
    """Whether each neighbour is of the same class, nearest first (rows, rows - 1)."""
    unit = torch.nn.functional.normalize(embedding.double(), dim=1)
    cosine = (unit @ unit.T).fill_diagonal_(-torch.inf)
    order = cosine.argsort(1, descending=True)[:, :-1]
    return labels[order] == labels[:, None]


def recall_at_k(embedding: Tensor, labels: Tensor, k: int = 1) -> Tensor:
    unit = torch.nn.functional.normalize(embedding, dim=1)
    cosine = (unit @ unit.T).fill_diagonal_(-torch.inf)
    nearest = cosine.masked_fill(labels != labels[:, None], -torch.inf).amax(1, keepdim=True)
    return ((cosine > nearest).sum(1) < k).double().mean()


def mean_average_precision_at_r(embedding: Tensor, labels: Tensor) -> Tensor:
    hit = _alike(embedding, labels).double()
    relevant = hit.sum(1, keepdim=True)
    place = torch.arange(1, hit.shape[1] + 1)
    precision = (hit.cumsum(1) / place * hit * (place <= relevant)).sum(1) / relevant.squeeze(1).clamp_min(1)
    return precision.mean()
