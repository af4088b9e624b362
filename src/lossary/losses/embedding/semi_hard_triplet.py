"""Semi-hard triplet loss: each positive pair against the nearest negative that is farther than the positive."""

from collections.abc import Callable

import torch
from torch import Tensor

from lossary._core.parameters import NonNegative, Reduction, formula
from lossary._core.registry import objective
from lossary._fast.pairs.rule import Kernel, Pairs, distances
from lossary.distributed import Group
from lossary.losses.embedding._common import MetricObjective, average_over_anchors, check_embedding_and_labels, squares


@formula
def semi_hard_triplet(
    embedding: Tensor, labels: Tensor, *, margin: NonNegative = 0.2, group: Group = None, reduction: Reduction = "mean"
) -> Tensor:
    """The pure function behind :class:`SemiHardTripletLoss`, with the same parameters."""
    check_embedding_and_labels("semi_hard_triplet", embedding, labels)

    def row(q: Tensor, pairs: Pairs) -> tuple[Tensor, ...]:
        # The negatives by their distance: a positive's negative is the first that is farther, or the last if none is.
        d = distances(q)
        ascending = d.masked_fill(~pairs.negative, torch.inf).sort(1).values
        number = pairs.negative.sum(1, keepdim=True)
        place = torch.searchsorted(ascending.detach(), d.detach(), right=True)
        negative = ascending.gather(1, torch.minimum(place, (number - 1).clamp_min(0)))
        chosen = pairs.positive & (number > 0)
        cost = (d - negative + margin).masked_fill(~chosen, 0.0).relu()
        return cost.sum(1), chosen.sum(1).to(q.dtype)

    return average_over_anchors(
        "semi_hard_triplet", row, Kernel(_loop, 2, (margin,)), embedding, labels, group, reduction, given_by=squares
    )


def _loop() -> Callable[..., None]:
    from lossary._fast.pairs import loops as pairs_loops

    return pairs_loops.semi_hard_triplet  # type: ignore[no-any-return]


@objective(
    family="embedding",
    function=semi_hard_triplet,
    soft_targets=False,
    decomposable=False,
    spatial=False,
    link="value",
    distributed="inexact",
    tune={"margin": (0.05, 0.5)},
)
class SemiHardTripletLoss(MetricObjective):
    r"""Semi-hard triplet loss: each positive pair against the nearest negative that is farther than the positive.

    .. math:: \frac{1}{|P|} \sum_{(i, p) \in P} [d_{ip} - d_{i n(i, p)} + m]_+, \qquad
        n(i, p) = \arg\min_{n:\, d_{in} > d_{ip}} d_{in}

    with d the Euclidean distance of embeddings of length one, and P the positive pairs. A negative that is farther than the
    positive, but by less than the margin, is semi-hard, and the hardest of these is chosen; where it is farther by more the pair
    costs nothing. Where no negative is farther, the farthest of all is chosen, the easiest that there is: at the start of
    training the hardest ones tend to pull all embeddings into one point, which ``batch_hard_triplet`` has to overcome. The mean is
    over all positive pairs, those that cost nothing included. Its memory does not grow with the square of the batch: an anchor's
    negatives are sorted once, and each positive looks its own up.

    TensorFlow Addons' ``TripletSemiHardLoss`` chooses by the same rule, with a margin of 1 where FaceNet has 0.2; FaceNet's
    distances are squared. In PyTorch Metric Learning a miner with ``type_of_triplets="semihard"`` takes every semi-hard negative of
    a pair instead of one, and none where there is no such.

    Args:
        margin: by how much a positive has to be nearer than its negative.
        group: the processes whose samples are items too, each process having its own anchors: None for this one alone, ``"world"``,
            or a process group; the mean over the processes of the loss and of every gradient is what one would find on all samples.
        reduction: over the positive pairs; ``"none"`` gives each anchor's sum over its positives.
    Shape: embedding (N, D); labels (N,) integers.
    Units: distances between points of the unit sphere.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Schroff, Kalenichenko and Philbin, "FaceNet: A Unified Embedding for Face Recognition and Clustering", 2015.

    >>> SemiHardTripletLoss()(torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]), torch.tensor([0, 0, 1]))
    tensor(0.2310)
    """

    def __init__(self, *, margin: NonNegative = 0.2, group: Group = None, reduction: Reduction = "mean"):
        super().__init__(margin=margin, group=group, reduction=reduction)
