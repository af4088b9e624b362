"""What metrics of all pairs share: checks, and rows of similarities a block at a time, so that nothing grows with the square."""

from collections.abc import Iterator

import torch
from torch import Tensor

from lossary._checks import check_floating, check_integers, check_shape, shape_text
from lossary._objective import widen, without_autocast
from lossary._pairs import similarities, unit
from lossary.errors import InvalidValueError


def check_rows(owner: str, argument: str, x: Tensor) -> None:
    check_floating(owner, argument, x)
    if x.ndim != 2:
        raise InvalidValueError(f"{owner}: {argument} must have shape (N, D), got {shape_text(tuple(x.shape))}")


def check_labelled(owner: str, embedding: Tensor, labels: Tensor) -> None:
    check_rows(owner, "embedding", embedding)
    check_integers(owner, "labels", labels)
    check_shape(owner, "labels", labels, (embedding.shape[0],))


def of_cosines(embedding: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """The cosines of a block of rows with all rows; -inf with themselves."""
    x = unit(widen(embedding.detach()))
    with without_autocast(x):
        for rows, s in similarities(x, x) if len(x) else ():
            yield rows, without_itself(s, rows)


def without_itself(s: Tensor, rows: slice) -> Tensor:
    s.diagonal(rows.start).fill_(-torch.inf)
    return s


def class_sizes(labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Classes numbered from 0, the class of each sample, and how many samples each class has."""
    classes, of_sample, count = labels.unique(return_inverse=True, return_counts=True)
    return classes, of_sample, count
