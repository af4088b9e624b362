"""Tolerance: how near to each other embeddings of one class are."""

from torch import Tensor

from lossary._core.checks import check_floating, check_integers, check_shape, shape_text
from lossary._core.objective import widen
from lossary._core.parameters import checked
from lossary._core.registry import unit as register
from lossary._fast.pairs.rule import unit
from lossary.errors import InvalidValueError


@register(kind="diagnostic", declares={"bounds": (-1.0, 1.0), "perfect": 1.0, "empty": 0.0})
@checked("tolerance")
def tolerance(x: Tensor, labels: Tensor) -> Tensor:
    r"""Tolerance: how near to each other embeddings of one class are.

    .. math:: \mathrm{mean}_{i \ne j,\, y_i = y_j} \cos(x_i, x_j)

    What a contrastive loss takes from it, by pushing samples apart that mean the same, it gives to :func:`uniformity`. The sum over
    the pairs of a class is the squared length of its sum, so that no pair is ever looked at.

    Args:
        x: the embeddings.
        labels: the class of each, which the training need not have seen.
    Shape: x (N, D), of any length; labels (N,) int64; the result is a scalar, 0 if no class has two embeddings.
    Units: a cosine, in [-1, 1].
    Errors: a shape or dtype other than these is a ``LossaryError``.
    Source: Wang and Liu, "Understanding the Behaviour of Contrastive Loss", 2021.

    >>> tolerance(torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]), torch.tensor([0, 0, 1]))
    tensor(0.6000)
    """
    check_floating("tolerance", "x", x)
    if x.ndim != 2:
        raise InvalidValueError(f"tolerance: x must have shape (N, D), got {shape_text(tuple(x.shape))}")
    check_integers("tolerance", "labels", labels)
    check_shape("tolerance", "labels", labels, (x.shape[0],))
    z = unit(widen(x))
    _, place, counts = labels.unique(return_inverse=True, return_counts=True)
    sums = z.new_zeros(len(counts), z.shape[1]).index_add(0, place, z)
    total = sums.square().sum() - z.square().sum()  # of all ordered pairs of two different embeddings
    pairs = (counts * (counts - 1)).sum()
    return total / pairs if bool(pairs) else total * 0.0
