"""Generalized lifted structure: all of an anchor's positives against all of its negatives, by smooth maxima."""

from collections.abc import Callable

from torch import Tensor

from lossary._core.parameters import NonNegative, Reduction, formula
from lossary._core.registry import objective
from lossary._fast.pairs.rule import Kernel, Pairs, distances, log_sum_exp
from lossary.distributed import Group
from lossary.losses.embedding._common import MetricObjective, average_over_anchors, check_embedding_and_labels, squares


@formula
def generalized_lifted_structure(
    embedding: Tensor, labels: Tensor, *, margin: NonNegative = 1.0, group: Group = None, reduction: Reduction = "mean"
) -> Tensor:
    """The pure function behind :class:`GeneralizedLiftedStructureLoss`, with the same parameters."""
    check_embedding_and_labels("generalized_lifted_structure", embedding, labels)

    def row(q: Tensor, pairs: Pairs) -> tuple[Tensor, ...]:
        d = distances(q)
        usable = pairs.positive.any(1) & pairs.negative.any(1)
        both = log_sum_exp(d, pairs.positive) + log_sum_exp(margin - d, pairs.negative)
        return both.masked_fill(~usable, 0.0).relu(), usable.to(q.dtype)

    return average_over_anchors(
        "generalized_lifted_structure", row, Kernel(_loop, 2, (margin,)), embedding, labels, group, reduction, given_by=squares
    )


def _loop() -> Callable[..., None]:
    from lossary._fast.pairs import loops as pairs_loops

    return pairs_loops.generalized_lifted_structure  # type: ignore[no-any-return]


@objective(
    family="embedding",
    function=generalized_lifted_structure,
    soft_targets=False,
    decomposable=False,
    spatial=False,
    link="value",
    distributed="inexact",
    tune={"margin": (0.5, 2.0)},
)
class GeneralizedLiftedStructureLoss(MetricObjective):
    r"""Generalized lifted structure: all of an anchor's positives against all of its negatives, by smooth maxima.

    .. math:: \ell_i = \Bigl[ \log \sum_{p \in P_i} e^{d_{ip}} + \log \sum_{n \in N_i} e^{m - d_{in}} \Bigr]_+

    with d the Euclidean distance of embeddings of length one. Each logarithm is a smooth form of the largest of its terms, so that
    this is ``batch_hard_triplet`` in which not only the hardest positive and the hardest negative have a gradient. The mean is over
    the anchors that have both a positive and a negative. Its memory does not grow with the square of the batch.

    The sums also count: on the unit sphere, where no distance is above 2, more negatives cost more wherever they are, and with many
    of them the loss hardly ever reaches zero. In PyTorch Metric Learning an anchor without a positive is held against its negatives
    alone and counts in the mean, as if an empty sum of exponentials were 1; its two margins are their difference here,
    as no more than that enters.

    Args:
        margin: by how much positives have to be nearer than negatives.
        group: the processes whose samples are items too, each process having its own anchors: None for this one alone, ``"world"``,
            or a process group; the mean over the processes of the loss and of every gradient is what one would find on all samples.
        reduction: over the anchors; with ``"none"`` an anchor without a positive or a negative is 0.
    Shape: embedding (N, D); labels (N,) integers.
    Units: nats, of distances between points of the unit sphere.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Hermans, Beyer and Leibe, "In Defense of the Triplet Loss for Person Re-Identification", 2017, on the unit sphere.
        The loss that it generalizes is ``lifted_structure``.

    >>> GeneralizedLiftedStructureLoss()(torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]), torch.tensor([0, 0, 1]))
    tensor(0.8711)
    """

    def __init__(self, *, margin: NonNegative = 1.0, group: Group = None, reduction: Reduction = "mean"):
        super().__init__(margin=margin, group=group, reduction=reduction)
