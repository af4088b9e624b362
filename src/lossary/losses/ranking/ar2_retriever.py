"""AR2's retriever: passages that fool the ranker, and the ranker's opinion of all of them."""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from lossary._core.checks import check_floating
from lossary._core.parameters import Fraction, Positive, Reduction, formula
from lossary._core.registry import objective
from lossary.errors import InvalidValueError
from lossary.losses.ranking._common import RankingObjective, average_over_lists, check_both, lists_of, log_softmax_of_real


@formula
def ar2_retriever(
    scores: Tensor,
    ranker_scores: Tensor,
    mask: Tensor | None = None,
    *,
    adversarial_weight: Fraction = 0.5,
    ranker_temperature: Positive = 1.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`AR2RetrieverLoss`, with the same parameters."""
    check_floating("ar2_retriever", "ranker_scores", ranker_scores)
    check_both("ar2_retriever", scores, ranker_scores, "ranker_scores")
    found = lists_of("ar2_retriever", scores, ranker_scores.detach(), mask)
    if not scores.shape[1]:
        raise InvalidValueError("ar2_retriever: scores must have shape (N, K), K >= 1, got K = 0")
    log_p = log_softmax_of_real(found.scores, found.real)
    opinion = log_softmax_of_real(found.relevance / ranker_temperature, found.real).exp()
    reward = logsigmoid(found.relevance[:, :1] - found.relevance)
    weight = adversarial_weight * reward - (1 - adversarial_weight) * opinion
    per_query = torch.where(found.real, weight * log_p, 0.0).sum(1)
    return average_over_lists(per_query, found.real[:, 0], reduction)


@objective(family="ranking", function=ar2_retriever, link="ranking", spatial=False, value_is_objective=False)
class AR2RetrieverLoss(RankingObjective):
    r"""AR2's retriever: it moves towards passages that the ranker puts above the positive, and towards the ranker's distribution.

    .. math:: \ell(s, r) = a \sum_j \log \sigma(r_0 - r_j) \log p_j - (1 - a) \sum_j \mathrm{softmax}(r / \tau)_j \log p_j,
        \qquad p = \mathrm{softmax}(s)

    with the ranker's scores r, which get no gradient. The adversarial term alone knows no bounds: what the ranker puts far below
    the positive is pushed away for ever, so keep some of the distillation. As candidates are retrieved anew while training goes on,
    values at different times cannot be compared. The weight of the paper is not known; the authors' program
    adds the adversarial term over the batch where it averages the distillation, so that the mix depends on the batch size (here
    both are averaged), and adds 1e-7 to p before the logarithm, which takes the gradient from improbable passages.

    Args:
        adversarial_weight: the share a of the adversarial term; 0 is cross-entropy against the ranker's softmax.
        ranker_temperature: divides the ranker's scores in the distillation.
        reduction: ``"mean"`` over the queries that count, ``"sum"``, or ``"none"``; a query with a masked positive does not.
    Shape: scores and ranker_scores (N, K), the positive in column 0; mask (N, K) bool, True for a real candidate.
        Candidates with a score of -inf never count.
    Units: nats, weighted.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Zhang, Gong, Shen, Lv, Duan and Chen, "Adversarial Retriever-Ranker for Dense Text Retrieval", 2021.

    >>> AR2RetrieverLoss(adversarial_weight=0.0)(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0]]))
    tensor(0.5822)
    """

    def __init__(self, *, adversarial_weight: Fraction = 0.5, ranker_temperature: Positive = 1.0, reduction: Reduction = "mean"):
        super().__init__(adversarial_weight=adversarial_weight, ranker_temperature=ranker_temperature, reduction=reduction)

    def forward(self, scores: Tensor, ranker_scores: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.function(scores, ranker_scores, mask, **self.hyperparameters())
