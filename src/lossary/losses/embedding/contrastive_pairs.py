"""Contrastive loss: positives nearer than one distance, negatives farther than another."""

from collections.abc import Callable

from torch import Tensor

from lossary._core.parameters import NonNegative, SetReduction, formula
from lossary._core.registry import objective
from lossary._fast.pairs.once import sums_over_pairs
from lossary._fast.pairs.rule import Kernel, Pairs, distances
from lossary.distributed import Group
from lossary.losses.embedding._common import MetricObjective, check_embedding_and_labels, mean_of_sides, squares


@formula
def contrastive(
    embedding: Tensor,
    labels: Tensor,
    *,
    positive_margin: NonNegative = 0.0,
    negative_margin: NonNegative = 1.0,
    group: Group = None,
    reduction: SetReduction = "mean",
) -> Tensor:
    """The pure function behind :class:`ContrastiveLoss`, with the same parameters."""
    check_embedding_and_labels("contrastive", embedding, labels)

    def row(q: Tensor, pairs: Pairs) -> tuple[Tensor, ...]:
        d = distances(q)
        near = (d - positive_margin).relu().masked_fill(~pairs.positive, 0.0)
        far = (negative_margin - d).relu().masked_fill(~pairs.negative, 0.0)
        return near.sum(1), far.sum(1), (near > 0).sum(1).to(q.dtype), (far > 0).sum(1).to(q.dtype)

    kernel = Kernel(_loop, 4, (positive_margin, negative_margin), symmetric=True)
    near, far, near_count, far_count = sums_over_pairs(**squares("contrastive", row, kernel, embedding, labels, group))
    return mean_of_sides("contrastive", [(near, near_count), (far, far_count)], group, reduction)


def _loop() -> Callable[..., None]:
    from lossary._fast.pairs import loops as pairs_loops

    return pairs_loops.contrastive  # type: ignore[no-any-return]


@objective(
    family="embedding",
    function=contrastive,
    soft_targets=False,
    decomposable=False,
    spatial=False,
    link="value",
    distributed="inexact",
    tune={"negative_margin": (0.5, 1.5)},
)
class ContrastiveLoss(MetricObjective):
    r"""Contrastive loss: positives nearer than one distance, negatives farther than another.

    .. math:: \frac{1}{|A_+|} \sum_{(i, p)} [d_{ip} - m_+]_+ + \frac{1}{|A_-|} \sum_{(i, n)} [m_- - d_{in}]_+

    with d the Euclidean distance of embeddings of length one, and A the pairs of each kind that are not zero: pairs that are
        already
    right do not dilute the mean, as in the library PyTorch Metric Learning, whose defaults these are. The original squares both
    terms and takes the mean over all pairs. Its memory does not grow with the square of the batch.

    Args:
        positive_margin: the distance below which a positive pair costs nothing.
        negative_margin: the distance above which a negative pair costs nothing.
        group: the processes whose samples are items too, each process having its own anchors: None for this one alone, ``"world"``,
            or a process group; the mean over the processes of the loss and of every gradient is what one would find on all samples.
        reduction: ``"mean"``, the sum of the two means, or ``"sum"`` over all pairs.
    Shape: embedding (N, D); labels (N,) integers.
    Units: distances between points of the unit sphere.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Hadsell, Chopra and LeCun, "Dimensionality Reduction by Learning an Invariant Mapping", 2006, in the form above.

    >>> ContrastiveLoss()(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]), torch.tensor([0, 0, 1]))
    tensor(1.6508)
    """

    def __init__(
        self,
        *,
        positive_margin: NonNegative = 0.0,
        negative_margin: NonNegative = 1.0,
        group: Group = None,
        reduction: SetReduction = "mean",
    ):
        super().__init__(positive_margin=positive_margin, negative_margin=negative_margin, group=group, reduction=reduction)
