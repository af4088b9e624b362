"""What losses of labelled embeddings share: their checks, their link, and means over the anchors of all processes."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lossary._core.checks import check_floating, check_integers, check_shape, shape_text
from lossary._core.objective import Objective, reduce, widen
from lossary._fast.pairs.rule import Kernel, Row, against_all, over_rows, sum_over_rows, unit
from lossary.distributed import Group, total
from lossary.errors import InvalidValueError


class MetricObjective(Objective):
    """Embeddings (N, D) and labels (N,); what they predict is the embeddings themselves, compared by their cosines."""

    consumes = "embedding"

    def forward(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss of an embedding (N, D) with integer labels (N,)."""
        return self.function(embedding, labels, **self.hyperparameters())

    def link(self, output: Tensor) -> Tensor:
        return output


def check_embedding_and_labels(owner: str, embedding: Tensor, labels: Tensor) -> None:
    check_floating(owner, "embedding", embedding)
    if embedding.ndim != 2:
        raise InvalidValueError(f"{owner}: embedding must have shape (N, D), got {shape_text(tuple(embedding.shape))}")
    check_integers(owner, "labels", labels)
    check_shape(owner, "labels", labels, (embedding.shape[0],))


def cosines(owner: str, row: Row, kernel: Kernel | None, embedding: Tensor, labels: Tensor, group: Group) -> dict[str, Any]:
    """What :func:`over_rows` and :func:`sum_over_rows` take for the cosines of this process's anchors with everybody's items."""
    return {"row": row, "kernel": kernel, **against_all(owner, unit(widen(embedding)), labels=labels, group=group)}


def squares(owner: str, row: Row, kernel: Kernel | None, embedding: Tensor, labels: Tensor, group: Group) -> dict[str, Any]:
    """The same for the squared distances of the embeddings' directions."""
    return {**cosines(owner, row, kernel, embedding, labels, group), "squares": True}


def average_over_anchors(
    owner: str,
    row: Row,
    kernel: Kernel | None,
    embedding: Tensor,
    labels: Tensor,
    group: Group,
    reduction: str,
    parameters: Sequence[Tensor] = (),
    given_by: Callable[..., dict[str, Any]] = cosines,
) -> Tensor:
    """The sum of the anchors' first numbers over the sum of their second ones, as the reduction says.

    The row function takes what ``given_by`` says: :func:`cosines` or :func:`squares`.
    """
    given = {**given_by(owner, row, kernel, embedding, labels, group), "parameters": parameters}
    if reduction == "none":
        return over_rows(**given)[0]
    value, count = sum_over_rows(**given)
    return reduce(total(owner, value, group), total(owner, count, group), reduction)


def mean_of_sides(owner: str, sides: list[tuple[Tensor, Tensor]], group: Group, reduction: str) -> Tensor:
    """The sum of the means of several kinds of pairs, each from its anchors' sums and counts."""
    means = [reduce(total(owner, x, group), total(owner, count.detach().sum(), group), reduction) for x, count in sides]
    return torch.stack(means).sum()
