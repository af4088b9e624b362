"""Margin-based loss: positives within one distance and negatives beyond it, each by a margin."""

import torch
from torch import Tensor, nn

from lossary._core.parameters import NonNegative, Real, Reduction, formula
from lossary._core.registry import objective
from lossary._fast.pairs.rule import Pairs, distances
from lossary.distributed import Group
from lossary.losses.embedding._common import MetricObjective, average_over_anchors, check_embedding_and_labels, squares


@formula
def margin(
    embedding: Tensor,
    labels: Tensor,
    beta: Tensor,
    *,
    margin: NonNegative = 0.2,
    group: Group = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`MarginLoss`, with the boundary, a scalar."""
    check_embedding_and_labels("margin", embedding, labels)

    def row(q: Tensor, pairs: Pairs, beta: Tensor) -> tuple[Tensor, ...]:
        d = distances(q)
        near = (d - beta + margin).relu().masked_fill(~pairs.positive, 0.0)
        far = (beta - d + margin).relu().masked_fill(~pairs.negative, 0.0)
        # A pair is in as many triplets as its anchor has pairs of the other kind.
        positives, negatives = pairs.positive.sum(1).to(q.dtype), pairs.negative.sum(1).to(q.dtype)
        cost = negatives * near.sum(1) + positives * far.sum(1)
        return cost, negatives * (near > 0).sum(1) + positives * (far > 0).sum(1)

    return average_over_anchors("margin", row, None, embedding, labels, group, reduction, (beta,), squares)


@objective(
    family="embedding",
    function=margin,
    soft_targets=False,
    decomposable=False,
    spatial=False,
    link="value",
    distributed="inexact",
    tune={"margin": (0.05, 0.5), "init_beta": (0.8, 1.4)},
)
class MarginLoss(MetricObjective):
    r"""Margin-based loss: positives within one distance and negatives beyond it, each by a margin.

    .. math:: \frac{1}{|A|} \sum_{i} \sum_{p} \sum_{n} \Bigl( [d_{ip} - \beta + \alpha]_+ + [\beta - d_{in} + \alpha]_+ \Bigr)

    with d the Euclidean distance of embeddings of length one, alpha the margin, and A the terms of all triplets that are not zero.
    Unlike in a triplet loss a positive is held against the boundary beta instead of against a negative, so that one distance
    separates all classes. A triplet is two pairs, and each pair counts once for every triplet that it is in, so that positives and
    negatives weigh alike however many there are of each; that takes the time of pairs, not of triplets. Its memory does not grow
    with the square of the batch.

    This is the loss alone. The paper's other half, distance-weighted sampling, which draws one negative for each positive,
    evenly over the distances, is not part of it: here all negatives take part, as in the library PyTorch Metric Learning. Beta is
    one number, without the paper's offsets for classes and samples and without its regularizer.

    Args:
        margin: alpha, by how far a pair has to be on its side of the boundary.
        init_beta: the boundary, or where it starts if it is learned.
        learn_beta: whether the boundary is a parameter that is trained: give it to the optimizer, without weight decay.
        group: the processes whose samples are items too, each process having its own anchors: None for this one alone, ``"world"``,
            or a process group; the mean over the processes of the loss and of every gradient is what one would find on all samples.
        reduction: over the terms that are not zero; ``"none"`` gives each anchor's sum over its triplets.
    Shape: embedding (N, D); labels (N,) integers.
    Units: distances between points of the unit sphere.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Wu, Manmatha, Smola and Krähenbühl, "Sampling Matters in Deep Embedding Learning", 2017.

    >>> MarginLoss()(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]), torch.tensor([0, 0, 1]))
    tensor(0.5254)
    """

    beta: Tensor
    init_beta: float

    def __init__(
        self,
        *,
        margin: NonNegative = 0.2,
        init_beta: Real = 1.2,
        learn_beta: bool = False,
        group: Group = None,
        reduction: Reduction = "mean",
    ):
        super().__init__(margin=margin, init_beta=init_beta, learn_beta=learn_beta, group=group, reduction=reduction)
        self.beta = nn.Parameter(torch.empty(()), requires_grad=learn_beta)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.constant_(self.beta, self.init_beta)

    def forward(self, embedding: Tensor, labels: Tensor) -> Tensor:
        given = self.hyperparameters()
        shared = {name: given[name] for name in ("margin", "group", "reduction")}
        return self.function(embedding, labels, self.beta, **shared)
