"""Uniformity: how evenly embeddings are spread over the sphere."""

import math

import torch
from torch import Tensor

from lossary._core.checks import check_floating, shape_text
from lossary._core.objective import widen
from lossary._core.parameters import Positive, checked
from lossary._core.registry import unit as register
from lossary._fast.pairs.rule import Pairs, log_sum_exp, over_rows, unit
from lossary.errors import InvalidValueError


@register(kind="diagnostic", declares={"bounds": (-8.0, 0.0), "empty": 0.0})
@checked("uniformity")
def uniformity(x: Tensor, t: Positive = 2.0) -> Tensor:
    r"""Uniformity: how evenly embeddings are spread over the sphere.

    .. math:: \log \frac{2}{N (N - 1)} \sum_{i < j} e^{-t \lVert x_i - x_j \rVert^2}, \qquad \lVert x_i \rVert = 1

    0 if all embeddings point to one side, and the lower the more evenly they are spread; at least about -2t for the uniform
    distribution in many dimensions. Pairs are taken in blocks, and the result has a gradient.

    Args:
        x: the embeddings.
        t: how far a pair can see each other, above 0.
    Shape: x (N, D), of any length; the result is a scalar, 0 for fewer than two embeddings.
    Units: nats, in [-4t, 0].
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Wang and Isola, 2020; as Wang and Liu use it in "Understanding the Behaviour of Contrastive Loss", 2021.

    >>> uniformity(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    tensor(-4.)
    """
    check_floating("uniformity", "x", x)
    if x.ndim != 2:
        raise InvalidValueError(f"uniformity: x must have shape (N, D), got {shape_text(tuple(x.shape))}")
    n = x.shape[0]
    if n < 2:
        return widen(x).sum() * 0.0

    def row(s: Tensor, pairs: Pairs) -> tuple[Tensor, ...]:
        return (log_sum_exp(2 * t * (s - 1), ~pairs.itself),)

    (rows,) = over_rows(row, unit(widen(x)))
    return torch.logsumexp(rows, 0) - math.log(n * (n - 1))
