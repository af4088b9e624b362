"""Lifted structured embedding: each positive pair against all negatives of both of its samples."""

import torch
from torch import Tensor

from lossary._core.parameters import NonNegative, Reduction, formula
from lossary._core.registry import objective
from lossary._fast.pairs.rule import Pairs, distances, log_sum_exp, over_rows
from lossary.distributed import Group, all_items
from lossary.losses.embedding._common import MetricObjective, average_over_anchors, check_embedding_and_labels, squares


@formula
def lifted_structure(
    embedding: Tensor, labels: Tensor, *, margin: NonNegative = 1.0, group: Group = None, reduction: Reduction = "mean"
) -> Tensor:
    """The pure function behind :class:`LiftedStructureLoss`, with the same parameters."""
    check_embedding_and_labels("lifted_structure", embedding, labels)

    def to_negatives(q: Tensor, pairs: Pairs) -> tuple[Tensor, ...]:
        found = log_sum_exp(margin - distances(q), pairs.negative)
        return (found.masked_fill(~pairs.negative.any(1), 0.0),)

    def row(q: Tensor, pairs: Pairs, of_anchors: Tensor, of_items: Tensor) -> tuple[Tensor, ...]:
        usable = pairs.positive & pairs.negative.any(1, keepdim=True)
        both = torch.logaddexp(of_anchors[pairs.anchors].unsqueeze(1), of_items)
        cost = (both + distances(q)).masked_fill(~usable, 0.0).relu().square() / 2
        return cost.sum(1), usable.sum(1).to(q.dtype)

    # A sample's sum over its negatives is the same in all of its pairs: it is made first, and then taken as a parameter.
    (own,) = over_rows(**squares("lifted_structure", to_negatives, None, embedding, labels, group))
    everybody = all_items("lifted_structure", own, group).items
    return average_over_anchors("lifted_structure", row, None, embedding, labels, group, reduction, (own, everybody), squares)


@objective(
    family="embedding",
    function=lifted_structure,
    soft_targets=False,
    decomposable=False,
    spatial=False,
    link="value",
    distributed="inexact",
    waivers={"half_precision_accuracy": "a small distance from cosines is less exact, and here weighs others"},
    tune={"margin": (0.5, 2.0)},
)
class LiftedStructureLoss(MetricObjective):
    r"""Lifted structured embedding: each positive pair against all negatives of both of its samples.

    .. math::
        \frac{1}{2 |P|} \sum_{(i, p) \in P} \Bigl[ d_{ip} + \log \Bigl( \sum_{n \in N_i} e^{m - d_{in}}
        + \sum_{n \in N_p} e^{m - d_{pn}} \Bigr) \Bigr]_+^2

    with d the Euclidean distance of embeddings of length one, and P the positive pairs. It is the form of the paper, though on the
    unit sphere; that of later work, one term for each anchor with all of its positives at once, is
    ``generalized_lifted_structure``: the one to start with, as it takes half the time and does not square what is wrong. Its memory
    does not grow with the square of the batch: each sample's sum over its negatives is found first, and its pairs share it.

    The values are those of PyTorch Metric Learning, which looks at every positive pair with every negative one, so that a batch of
    a few hundred samples fills the memory; its two margins are their difference here, as no more than that enters.

    Args:
        margin: by how much a positive has to be nearer than negatives.
        group: the processes whose samples are items too, each process having its own anchors: None for this one alone, ``"world"``,
            or a process group; the mean over the processes of the loss and of every gradient is what one would find on all samples.
        reduction: over the positive pairs; ``"none"`` gives each anchor's sum over its positives.
    Shape: embedding (N, D); labels (N,) integers.
    Units: squared nats, of distances between points of the unit sphere.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Oh Song, Xiang, Jegelka and Savarese, "Deep Metric Learning via Lifted Structured Feature Embedding", 2016.

    >>> LiftedStructureLoss()(torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]), torch.tensor([0, 0, 1]))
    tensor(1.3428)
    """

    def __init__(self, *, margin: NonNegative = 1.0, group: Group = None, reduction: Reduction = "mean"):
        super().__init__(margin=margin, group=group, reduction=reduction)
