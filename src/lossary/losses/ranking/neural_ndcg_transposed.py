"""NeuralNDCG Transposed: the same sum item by item, each at its expected discount."""

from typing import Annotated

from torch import Tensor

from lossary._core.parameters import Interval, NonNegative, Positive, PositiveCount, Reduction, formula
from lossary._core.registry import objective
from lossary.losses.ranking._common import RankingObjective
from lossary.losses.ranking._neural_sort import Sorting, Stochastic, neural_loss

Rounds = Annotated[int, Interval(low=0, whole=True)]


def discounts_of_items(matrix: Tensor, gain: Tensor, discount: Tensor) -> Tensor:
    """The expected discount of each item: sum_j g_j (P^T d)_j."""
    return ((discount @ matrix) * gain).sum(1)


@formula
def neural_ndcg_transposed(
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
    """The pure function behind :class:`NeuralNDCGTransposedLoss`, with the same parameters."""
    return neural_loss(
        "neural_ndcg_transposed",
        scores,
        relevance,
        mask,
        discounts_of_items,
        sorting=Sorting(temperature, sinkhorn_iterations, sinkhorn_tolerance, k),
        exponential_gain=exponential_gain,
        noise=Stochastic(num_samples, beta) if stochastic else None,
        reduction=reduction,
    )


@objective(
    family="ranking",
    function=neural_ndcg_transposed,
    link="ranking",
    spatial=False,
    saturates=True,
    tune={"temperature": (0.1, 10.0)},
)
class NeuralNDCGTransposedLoss(RankingObjective):
    r"""NeuralNDCG Transposed: minus NDCG, each item with its gain times its expected discount.

    .. math:: \ell(s, y) = -\frac{1}{\mathrm{IDCG@}k} \sum_j g_j (P^\top d)_j, \qquad d_i = \frac{[i \le k]}{\log_2(1 + i)}

    with the matrix P of :class:`NeuralNDCGLoss`. It is that loss's double sum in the other order, so that value and gradient are
    the same; it has a name because the paper gives it one. The authors' program takes the ideal of exponential gains also where
    gains are linear, which is why the two differ there.

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

    >>> NeuralNDCGTransposedLoss()(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[0, 0, 1]]))
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
