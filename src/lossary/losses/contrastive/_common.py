"""What contrastive losses share: the check of a pair of views."""

from torch import Tensor

from lossary._checks import check_floating, check_shape, shape_text
from lossary.errors import InvalidValueError


def check_pair(owner: str, a: Tensor, b: Tensor, first: str = "a", second: str = "b") -> None:
    """Two floating-point tensors of one shape (N, D); ``first`` and ``second`` are what the objective calls them."""
    check_floating(owner, first, a)
    check_floating(owner, second, b)
    if a.ndim != 2:
        raise InvalidValueError(f"{owner}: {first} must have shape (N, D), got {shape_text(tuple(a.shape))}")
    check_shape(owner, second, b, tuple(a.shape))
