"""Checks and blocks of cosines that metrics of all pairs share, so that nothing grows with the square.

Ties are those of :func:`lossary._fast.pairs.neighbours.head`.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from lossary._core.checks import check_floating, check_integers, check_shape, shape_text
from lossary._core.objective import widen, without_autocast
from lossary._fast.pairs.neighbours import Head, head
from lossary._fast.pairs.rule import similarities, unit
from lossary.errors import InvalidValueError


def check_rows(owner: str, argument: str, x: Tensor) -> None:
    check_floating(owner, argument, x)
    if x.ndim != 2:
        raise InvalidValueError(f"{owner}: {argument} must have shape (N, D), got {shape_text(tuple(x.shape))}")


def check_labelled(owner: str, embedding: Tensor, labels: Tensor) -> None:
    check_rows(owner, "embedding", embedding)
    check_integers(owner, "labels", labels)
    check_shape(owner, "labels", labels, (embedding.shape[0],))


def heads(embedding: Tensor, labels: Tensor, k: int) -> Iterator[tuple[slice, Head]]:
    """The k nearest others of each row by cosine, with their ties, for one block of rows after the other."""
    x = unit(widen(embedding.detach()))
    with without_autocast(x):
        for rows, s in similarities(x, x) if len(x) and k else ():
            s.diagonal(rows.start).fill_(-torch.inf)
            yield rows, head(s, labels[rows], labels, k)


def finish(value: Tensor, embedding: Tensor) -> Tensor:
    """A metric of an embedding (N, D) in its dtype, float32 at least; NaN where a number of the embedding is NaN."""
    value = value.to(embedding.device, torch.promote_types(embedding.dtype, torch.float32))
    return torch.where(embedding.detach().isnan().any(), torch.nan, value)


def class_sizes(labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Classes numbered from 0, the class of each sample, and how many samples each class has."""
    classes, of_sample, count = labels.unique(return_inverse=True, return_counts=True)
    return classes, of_sample, count
