"""NeuralNDCG: NDCG itself, with a relaxed sorting matrix in the place of sorting."""

from typing import Annotated

from torch import Tensor

from lossary._core.parameters import Interval, NonNegative, Positive, PositiveCount, Reduction, formula
from lossary._core.registry import objective
from lossary.losses.ranking._common import RankingObjective
from lossary.losses.ranking._neural_sort import Sorting, Stochastic, neural_loss

Rounds = Annotated[int, Interval(low=0, whole=True)]


def gains_of_ranks(matrix: Tensor, gain: Tensor, discount: Tensor) -> Tensor:
    """The expected gain at each rank, discounted: sum_i d_i (P g)_i."""
    return ((matrix @ gain.unsqueeze(2)).squeeze(2) * discount).sum(1)


@formula
def neural_ndcg(
    scores: Tensor,
    relevance: Tensor,
    mask: Tensor | None = None,
    *,
    temperature: Positive = 1.0,
    k: PositiveCount | None = None,
    exponential_gain: bool = True,
    sinkhorn_iterations: Rounds = 50,
    sinkhorn_tolerance: NonNegative = 1e-6,
    stochastic: bool = False,
    num_samples: PositiveCount = 32,
    beta: NonNegative = 0.1,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`NeuralNDCGLoss`, with the same parameters."""
    return neural_loss(
        "neural_ndcg",
        scores,
        relevance,
        mask,
        gains_of_ranks,
        sorting=Sorting(temperature, sinkhorn_iterations, sinkhorn_tolerance, k),
        exponential_gain=exponential_gain,
        noise=Stochastic(num_samples, beta) if stochastic else None,
        reduction=reduction,
    )


@objective(family="ranking", function=neural_ndcg, link="ranking", spatial=False, saturates=True, tune={"temperature": (0.1, 10.0)})
class NeuralNDCGLoss(RankingObjective):
    r"""NeuralNDCG: minus NDCG, with a smooth matrix P where the metric sorts.

    .. math:: \ell(s, y) = -\frac{1}{\mathrm{IDCG@}k} \sum_{i \le k} \frac{(P g)_i}{\log_2(1 + i)},
        \qquad P_{i \cdot} \propto \mathrm{softmax}\left(\frac{(n + 1 - 2i)\, s - A}{\tau}\right), \qquad A_j = \sum_k |s_j - s_k|

    over the n real items of a list with gains g = 2^y - 1, P being brought near a doubly stochastic matrix by Sinkhorn's scaling.
    As the temperature falls it tends to minus NDCG, and what the temperature should be depends on how far scores part: scaling all
    scores is scaling 1 / temperature. Lists without a relevant item do not count.

    P is diag(u) K diag(v), and of the rounds of scaling only the vectors are kept. The gradient is the exact one through all
    rounds, list by list, so that no n x n matrix outlives its list. Padding is taken out before anything is computed, wherever it
    stands, and each list stops its rounds by itself: in the authors' program that depends on the rest of the batch, and a batch
    without relevance gives a constant without a gradient.

    Args:
        temperature: how smooth the sorting is.
        k: how many ranks count; all of them by default.
        exponential_gain: whether the gain is 2^relevance - 1, or the relevance itself.
        sinkhorn_iterations: at most so many rounds of scaling columns, then rows.
        sinkhorn_tolerance: a list whose sums are all this near to 1 has no further round.
        stochastic: whether Gumbel noise is added to the logarithm of how far scores are above the lowest.
        num_samples: over how many draws of the noise the loss is averaged.
        beta: how strong the noise is.
        reduction: ``"mean"`` over the lists that count, ``"sum"``, or ``"none"``, where those that do not are 0.
    Shape: scores and relevance (lists, items); mask (lists, items) bool, True for a real item.
        Without a mask, items of negative relevance are padding. Items with a score of -inf never count.
    Units: minus a share of the ideal gain, in [-1, 0].
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Pobrotyn and Bialobrzeski, "NeuralNDCG: Direct Optimisation of a Ranking Metric via Differentiable Relaxation of
        Sorting", 2021.

    >>> NeuralNDCGLoss()(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[0, 0, 1]]))
    tensor(-0.5374)
    """

    def __init__(
        self,
        *,
        temperature: Positive = 1.0,
        k: PositiveCount | None = None,
        exponential_gain: bool = True,
        sinkhorn_iterations: Rounds = 50,
        sinkhorn_tolerance: NonNegative = 1e-6,
        stochastic: bool = False,
        num_samples: PositiveCount = 32,
        beta: NonNegative = 0.1,
        reduction: Reduction = "mean",
    ):
        super().__init__(
            temperature=temperature,
            k=k,
            exponential_gain=exponential_gain,
            sinkhorn_iterations=sinkhorn_iterations,
            sinkhorn_tolerance=sinkhorn_tolerance,
            stochastic=stochastic,
            num_samples=num_samples,
            beta=beta,
            reduction=reduction,
        )
