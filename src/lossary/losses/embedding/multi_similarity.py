"""Multi-similarity loss: mined pairs, each weighted by its own similarity and by the anchor's other pairs."""

from collections.abc import Callable

import torch
from torch import Tensor

from lossary._core.parameters import NonNegative, Positive, Real, Reduction, formula
from lossary._core.registry import objective
from lossary._fast.pairs.rule import Kernel, Pairs, log_sum_exp
from lossary.distributed import Group
from lossary.losses.embedding._common import MetricObjective, average_over_anchors, check_embedding_and_labels


@formula
def multi_similarity(
    embedding: Tensor,
    labels: Tensor,
    *,
    alpha: Positive = 2.0,
    beta: Positive = 50.0,
    threshold: Real = 1.0,
    epsilon: NonNegative = 0.1,
    mining: bool = True,
    group: Group = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`MultiSimilarityLoss`, with the same parameters."""
    check_embedding_and_labels("multi_similarity", embedding, labels)

    def row(s: Tensor, pairs: Pairs) -> tuple[Tensor, ...]:
        positive, negative = pairs.positive, pairs.negative
        hardest_positive = s.detach().masked_fill(~positive, torch.inf).amin(1, keepdim=True)
        hardest_negative = s.detach().masked_fill(~negative, -torch.inf).amax(1, keepdim=True)
        usable = (hardest_positive < torch.inf) & (hardest_negative > -torch.inf)
        positive, negative = positive & usable, negative & usable
        if mining:
            negative, positive = negative & (s > hardest_positive - epsilon), positive & (s < hardest_negative + epsilon)
        one = torch.zeros_like(s[:, 0])  # the logarithm of the 1 in log(1 + sum)
        pull = torch.logaddexp(one, log_sum_exp(-alpha * (s - threshold), positive)) / alpha
        push = torch.logaddexp(one, log_sum_exp(beta * (s - threshold), negative)) / beta
        return pull + push, torch.ones_like(pull)

    constants = (alpha, beta, threshold, epsilon, float(mining))
    return average_over_anchors("multi_similarity", row, Kernel(_loop, 2, constants), embedding, labels, group, reduction)


def _loop() -> Callable[..., None]:
    from lossary._fast.pairs import loops as pairs_loops

    return pairs_loops.multi_similarity  # type: ignore[no-any-return]


@objective(
    family="embedding",
    function=multi_similarity,
    soft_targets=False,
    decomposable=False,
    spatial=False,
    link="value",
    distributed="inexact",
    tune={"alpha": (1.0, 10.0), "beta": (10.0, 80.0), "threshold": (0.3, 1.0)},
)
class MultiSimilarityLoss(MetricObjective):
    r"""Multi-similarity loss: mines the informative pairs of each anchor, and weights each against the others.

    .. math:: \ell_i = \tfrac1\alpha \log \Bigl( 1 + \sum_{p \in P_i} e^{-\alpha (s_{ip} - \lambda)} \Bigr)
        + \tfrac1\beta \log \Bigl( 1 + \sum_{n \in N_i} e^{\beta (s_{in} - \lambda)} \Bigr)

    with s the cosine. Mining keeps a negative that is more similar than the least similar positive less epsilon, and a positive
    that is less similar than the most similar negative plus epsilon; so either both sets are empty or none is. The mean is over all
    anchors, of which those without a positive or a negative are 0. Its memory does not grow with the square of the batch.

    The defaults are the paper's. Those of the authors' program, ``MultiSimilarityLoss.official()``, are the better choice: with
    lambda = 1 negatives below a similarity of about 0.95 are hardly felt. That program tells an anchor's pair with itself by a
    similarity near 1, which loses duplicates, and fails on an anchor without a positive; here it is told by its place.

    Args:
        alpha: how much a positive that is less similar than the others weighs more.
        beta: how much a negative that is more similar than the others weighs more.
        threshold: the similarity lambda.
        epsilon: the slack of the mining.
        mining: whether pairs are mined.
        group: the processes whose samples are items too, each process having its own anchors: None for this one alone, ``"world"``,
            or a process group; the mean over the processes of the loss and of every gradient is what one would find on all samples.
        reduction: over the anchors.
    Shape: embedding (N, D); labels (N,) integers.
    Units: cosines.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Wang, Han, Huang, Dong and Scott, "Multi-Similarity Loss with General Pair Weighting for Deep Metric Learning", 2019.

    >>> loss = MultiSimilarityLoss.official()
    >>> loss(torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]), torch.tensor([0, 0, 1]))
    tensor(0.1997)
    """

    def __init__(
        self,
        *,
        alpha: Positive = 2.0,
        beta: Positive = 50.0,
        threshold: Real = 1.0,
        epsilon: NonNegative = 0.1,
        mining: bool = True,
        group: Group = None,
        reduction: Reduction = "mean",
    ):
        super().__init__(
            alpha=alpha, beta=beta, threshold=threshold, epsilon=epsilon, mining=mining, group=group, reduction=reduction
        )

    @classmethod
    def official(cls) -> "MultiSimilarityLoss":
        """With the parameters of the authors' program."""
        return cls(alpha=2.0, beta=40.0, threshold=0.5, epsilon=0.1)
