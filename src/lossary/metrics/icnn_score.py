"""ICNN score: how well the nearest neighbours of one class stick together and keep away from others."""

from torch import Tensor

from lossary._core.objective import widen
from lossary._core.parameters import PositiveCount, checked
from lossary._core.registry import unit
from lossary._fast.pairs.neighbours import inter_and_intra_class_score
from lossary.metrics._pairwise import check_labelled


@unit(kind="diagnostic", declares={"bounds": (0.0, 1.0), "empty": 1.0})
@checked("icnn_score")
def icnn_score(
    embedding: Tensor, labels: Tensor, *, neighbors: PositiveCount | None = None, retrieved: PositiveCount | None = None
) -> Tensor:
    r"""Inter- and intra-class nearest neighbours: how well classes stick together and keep away from others.

    .. math:: \tfrac12 \Bigl( \tfrac12 (\mathrm{compact} + \mathrm{apart}) + \gamma \Bigr)

    Each sample retrieves its nearest others by Euclidean distance and uses k of them. *Compact* is 1 less the mean distance to
    neighbours of the same class, each over the distance to the nearest retrieved one of another class and, where a row then
    exceeds 1, over its largest; *apart* is the mean distance to neighbours of other classes over the largest in the batch, and 1
    if there are none; gamma is the share of neighbours of the same class, which carries no gradient.
    Neighbours at the same distance, up to rounding errors, each count as of the class by its share among them, so that the order of
    the rows does not matter. The paper describes a
    product of three powers; this is the later one of the programs that can be found, an average without the variance.

    Args:
        embedding: of the samples, not normalised.
        labels: their classes.
        neighbors: k; one less than the smallest class has samples by default, and at most N - 2.
        retrieved: how many are retrieved; k + 1 by default.
    Shape: embedding (N, D); labels (N,) integers; the result is a scalar, 1 for fewer than three samples.
    Units: a score in (0, 1], the higher the better.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Mendez-Ruiz, Gonzalez-Zapata, Reyes-Amezcua, Flores-Araiza, Lopez-Tiro, Mendez-Vazquez and Ochoa-Ruiz, "SuSana Distancia
        is all you need", 2023.

    >>> icnn_score(torch.tensor([[0.0], [1.0], [10.0], [11.0]]), torch.tensor([0, 0, 1, 1]))
    tensor(0.9736)
    """
    check_labelled("icnn_score", embedding, labels)
    return inter_and_intra_class_score("icnn_score", widen(embedding), labels, neighbors, retrieved)
