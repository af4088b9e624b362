"""AR2's ranker: the positive passage against what the retriever brings."""

from torch import Tensor

from lossary._core.checks import check_floating, shape_text
from lossary._core.parameters import Positive, Reduction, formula
from lossary._core.registry import objective
from lossary.errors import InvalidValueError
from lossary.losses.ranking._common import RankingObjective, average_over_lists, lists_of, log_softmax_of_real


@formula
def ar2_ranker(scores: Tensor, mask: Tensor | None = None, *, temperature: Positive = 1.0, reduction: Reduction = "mean") -> Tensor:
    """The pure function behind :class:`AR2RankerLoss`, with the same parameters."""
    check_floating("ar2_ranker", "scores", scores)
    if scores.ndim != 2 or not scores.shape[1]:
        raise InvalidValueError(f"ar2_ranker: scores must have shape (N, K), K >= 1, got {shape_text(tuple(scores.shape))}")
    found = lists_of("ar2_ranker", scores, scores.detach(), mask)
    per_query = -log_softmax_of_real(found.scores / temperature, found.real)[:, 0]
    return average_over_lists(per_query, found.real[:, 0], reduction)


@objective(family="ranking", function=ar2_ranker, link="ranking", spatial=False)
class AR2RankerLoss(RankingObjective):
    r"""AR2's ranker: cross-entropy for the positive among the candidates that the retriever brought.

    .. math:: \ell(r) = -\log \frac{e^{r_0 / \tau}}{\sum_j e^{r_j / \tau}}

    The ranker is trained while the retriever rests, then the other way round, with candidates that are retrieved anew each time: in
    the authors' program 40 steps of each on 20 negatives per query.

    Args:
        temperature: divides the scores.
        reduction: ``"mean"`` over the queries that count, ``"sum"``, or ``"none"``; a query with a masked positive does not.
    Shape: scores (N, K), the positive in column 0; mask (N, K) bool, True for a real candidate.
        Candidates with a score of -inf never count.
    Units: nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Zhang, Gong, Shen, Lv, Duan and Chen, "Adversarial Retriever-Ranker for Dense Text Retrieval", 2021.

    >>> AR2RankerLoss()(torch.tensor([[2.0, 0.0, 0.0]]))
    tensor(0.2395)
    """

    def __init__(self, *, temperature: Positive = 1.0, reduction: Reduction = "mean"):
        super().__init__(temperature=temperature, reduction=reduction)

    def forward(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:  # type: ignore[override]
        return self.function(scores, mask, **self.hyperparameters())
