"""Hardness weights: how a softmax contrast divides its push among the negatives."""

import torch
from torch import Tensor

from lossary._core.checks import check_floating, check_shape, shape_text
from lossary._core.objective import widen
from lossary._core.parameters import Positive, checked
from lossary._core.registry import unit as register
from lossary._fast.pairs.rule import unit
from lossary.errors import InvalidValueError


@register(kind="diagnostic")
@checked("hardness_weights")
def hardness_weights(a: Tensor, b: Tensor, temperature: Positive = 0.07) -> Tensor:
    r"""Hardness weights: how a softmax contrast divides its push among the negatives.

    .. math:: r_{ij} = \frac{e^{\cos(a_i, b_j) / \tau}}{\sum_{k \ne i} e^{\cos(a_i, b_k) / \tau}}, \qquad j \ne i

    The derivative of ``info_nce`` by a negative's similarity, relative to that by the positive's: a small temperature gives all of
    a row's push to its nearest negative, a large one the same to every negative.

    Args:
        a, b: the rows, and their items; item i is the positive of row i.
        temperature: the temperature tau, above 0.
    Shape: a and b (N, D), of any length; the result is (N, N), with a diagonal of zeros, and has as many numbers.
    Units: shares; each row sums to one.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Wang and Liu, "Understanding the Behaviour of Contrastive Loss", 2021, equation 6.

    >>> hardness_weights(torch.eye(3), torch.eye(3))
    tensor([[0.0000, 0.5000, 0.5000],
            [0.5000, 0.0000, 0.5000],
            [0.5000, 0.5000, 0.0000]])
    """
    check_floating("hardness_weights", "a", a)
    if a.ndim != 2:
        raise InvalidValueError(f"hardness_weights: a must have shape (N, D), got {shape_text(tuple(a.shape))}")
    check_floating("hardness_weights", "b", b)
    check_shape("hardness_weights", "b", b, tuple(a.shape))
    z = unit(widen(a)) @ unit(widen(b)).T / temperature
    own = torch.eye(len(z), dtype=torch.bool, device=z.device)
    if len(z) < 2:
        return z * 0.0
    return z.masked_fill(own, -torch.inf).softmax(1)
