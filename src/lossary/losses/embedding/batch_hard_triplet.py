"""Batch-hard triplet loss: the farthest positive and the nearest negative of each anchor."""

import torch
from torch import Tensor

from lossary._core.objective import reduce
from lossary._core.parameters import NonNegative, Reduction, formula
from lossary._core.registry import objective
from lossary._fast.pairs.rule import Pairs, distances, over_rows
from lossary.distributed import Group, total
from lossary.losses.embedding._common import MetricObjective, check_embedding_and_labels, squares


@formula
def batch_hard_triplet(
    embedding: Tensor, labels: Tensor, *, margin: NonNegative = 0.2, group: Group = None, reduction: Reduction = "mean"
) -> Tensor:
    """The pure function behind :class:`BatchHardTripletLoss`, with the same parameters."""
    check_embedding_and_labels("batch_hard_triplet", embedding, labels)

    def row(q: Tensor, pairs: Pairs) -> tuple[Tensor, ...]:
        usable = (pairs.positive.any(1) & pairs.negative.any(1)).to(q.dtype)
        positive = q.masked_fill(~pairs.positive, -torch.inf).argmax(1)
        return usable, positive.to(q.dtype), q.masked_fill(~pairs.negative, torch.inf).argmin(1).to(q.dtype)

    # Which pairs are hardest comes from all pairs, without a gradient; the loss is then one of two pairs for each anchor.
    given = squares("batch_hard_triplet", row, None, embedding, labels, group)
    x: Tensor = given["anchors"]
    items: Tensor = given.get("items", x)
    if not items.shape[0]:
        return x.sum() if reduction != "none" else x.sum(1)
    with torch.no_grad():
        usable, positive, negative = over_rows(**given)
    near, far = (distances((x - items[hardest.long()]).square().sum(1)) for hardest in (positive, negative))
    each = (near - far + margin).relu() * usable
    if reduction == "none":
        return each
    return reduce(total("batch_hard_triplet", each.sum(), group), total("batch_hard_triplet", usable.sum(), group), reduction)


@objective(
    family="embedding",
    function=batch_hard_triplet,
    soft_targets=False,
    decomposable=False,
    spatial=False,
    link="value",
    distributed="inexact",
    tune={"margin": (0.05, 0.5)},
)
class BatchHardTripletLoss(MetricObjective):
    r"""Batch-hard triplet loss: each anchor's farthest positive nearer than its nearest negative by a margin.

    .. math:: \ell_i = \Bigl[ \max_p d_{ip} - \min_n d_{in} + m \Bigr]_+

    with d the Euclidean distance of embeddings of length one. The mean is over the anchors that have both a positive and a
    negative. Where training starts with all embeddings in one place it stays there more easily than ``triplet``, which takes all
    triplets. Its memory does not grow with the square of the batch, and only two pairs of each anchor have a gradient.

    Args:
        margin: by how much the farthest positive has to be nearer than the nearest negative.
        group: the processes whose samples are items too, each process having its own anchors: None for this one alone, ``"world"``,
            or a process group; the mean over the processes of the loss and of every gradient is what one would find on all samples.
        reduction: over the anchors; with ``"none"`` an anchor without a positive or a negative is 0.
    Shape: embedding (N, D); labels (N,) integers.
    Units: distances between points of the unit sphere.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Hermans, Beyer and Leibe, "In Defense of the Triplet Loss for Person Re-Identification", 2017, on the unit sphere.

    >>> BatchHardTripletLoss()(torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]), torch.tensor([0, 0, 1]))
    tensor(0.2310)
    """

    def __init__(self, *, margin: NonNegative = 0.2, group: Group = None, reduction: Reduction = "mean"):
        super().__init__(margin=margin, group=group, reduction=reduction)
