"""Triplet loss over all triplets of the batch, in the time of all pairs."""

from collections.abc import Callable

import torch
from torch import Tensor

from lossary._core.parameters import NonNegative, Reduction, formula
from lossary._core.registry import objective
from lossary._fast.pairs.rule import Kernel, Pairs, distances
from lossary.distributed import Group
from lossary.losses.embedding._common import MetricObjective, average_over_anchors, check_embedding_and_labels, squares


@formula
def triplet(
    embedding: Tensor, labels: Tensor, *, margin: NonNegative = 0.2, group: Group = None, reduction: Reduction = "mean"
) -> Tensor:
    """The pure function behind :class:`TripletLoss`, with the same parameters."""
    check_embedding_and_labels("triplet", embedding, labels)

    def row(q: Tensor, pairs: Pairs) -> tuple[Tensor, ...]:
        # A negative at distance d costs the sum of d_p + margin - d over the positives for which this is positive: those from some
        # place on, if they are sorted.
        d = distances(q)
        ascending = (d + margin).masked_fill(~pairs.positive, -torch.inf).sort(1).values
        place = torch.searchsorted(ascending.detach(), d.detach(), right=True)
        finite = ascending.masked_fill(ascending == -torch.inf, 0.0)
        from_place_on = torch.nn.functional.pad(finite.flip(1).cumsum(1).flip(1), (0, 1)).gather(1, place)
        count = (q.shape[1] - place).masked_fill(~pairs.negative, 0).to(q.dtype)
        return (from_place_on.masked_fill(~pairs.negative, 0.0) - count * d).sum(1), count.sum(1)

    return average_over_anchors("triplet", row, Kernel(_loop, 2, (margin,)), embedding, labels, group, reduction, given_by=squares)


def _loop() -> Callable[..., None]:
    from lossary._fast.pairs import loops as pairs_loops

    return pairs_loops.triplet  # type: ignore[no-any-return]


@objective(
    family="embedding",
    function=triplet,
    soft_targets=False,
    decomposable=False,
    spatial=False,
    link="value",
    distributed="inexact",
    tune={"margin": (0.05, 0.5)},
)
class TripletLoss(MetricObjective):
    r"""Triplet loss: every positive nearer than every negative by a margin, over all triplets of the batch.

    .. math:: \frac{1}{|A|} \sum_{i} \sum_{p} \sum_{n} [d_{ip} - d_{in} + m]_+

    with d the Euclidean distance of embeddings of length one, and A the triplets that are not zero: those that are already right
        do not
    dilute the mean. The batch is not mined: the sum over all triplets comes from the sorted positives of each anchor, in the
    time and memory of pairs, so that all of them take part for less than a list of triplets costs. For the hardest triplet of
    each anchor alone use ``batch_hard_triplet``.

    Args:
        margin: by how much a positive has to be nearer than a negative.
        group: the processes whose samples are items too, each process having its own anchors: None for this one alone, ``"world"``,
            or a process group; the mean over the processes of the loss and of every gradient is what one would find on all samples.
        reduction: over the triplets that are not zero; ``"none"`` gives each anchor's sum over its triplets.
    Shape: embedding (N, D); labels (N,) integers.
    Units: distances between points of the unit sphere.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Schroff, Kalenichenko and Philbin, "FaceNet: A Unified Embedding for Face Recognition and Clustering", 2015, with the
        mean of Hermans, Beyer and Leibe, "In Defense of the Triplet Loss for Person Re-Identification", 2017.

    >>> TripletLoss()(torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]), torch.tensor([0, 0, 1]))
    tensor(0.4620)
    """

    def __init__(self, *, margin: NonNegative = 0.2, group: Group = None, reduction: Reduction = "mean"):
        super().__init__(margin=margin, group=group, reduction=reduction)
