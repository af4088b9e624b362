"""Naive Bayes: the joint log-likelihood of an embedding and its class, for Gaussians with one variance for each feature."""

import math

import torch
from torch import Tensor, nn

from lossary._core.checks import check_floating, check_integers, check_shape, shape_text
from lossary._core.objective import Objective, average_over_classes, class_indices, double, widen
from lossary._core.parameters import NonNegative, PositiveCount, Reduction, formula
from lossary._core.registry import objective
from lossary._core.values import check_indices
from lossary.errors import InvalidValueError
from lossary.losses.classification._common import IGNORED, without_ignored
from lossary.losses.classification._embedding import check_embedding, check_embedding_and_target, squared_distances


@formula
def naive_bayes(
    embedding: Tensor,
    target: Tensor,
    means: Tensor,
    log_variance: Tensor,
    prior_logits: Tensor,
    *,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`NaiveBayesLoss`, with the means (C, D), log-variances (D,) and prior's logits (C,)."""
    check_embedding_and_target("naive_bayes", embedding, target, means)
    embedding = without_ignored(embedding, target, IGNORED)
    spread = (double(log_variance) + math.log(2 * math.pi)).sum() / 2
    if_class = spread - log_joint(embedding, means, log_variance, prior_logits)
    loss = average_over_classes(if_class, target, weight=None, ignore_index=IGNORED, label_smoothing=0.0, reduction=reduction)
    return loss.to(widen(embedding).dtype)


def log_joint(embedding: Tensor, means: Tensor, log_variance: Tensor, prior_logits: Tensor) -> Tensor:
    """log p(x, c) (N, C) in float64, but for what depends on the variances alone."""
    scale = (-double(log_variance) / 2).exp()
    squares = squared_distances(double(embedding) * scale, double(means) * scale)
    return double(prior_logits).log_softmax(0) - squares / 2


def naive_bayes_fit(embedding: Tensor, target: Tensor, num_classes: int, eps: float = 1e-9) -> tuple[Tensor, Tensor, Tensor]:
    """The means (C, D), log-variances (D,) and prior's logits (C,) that :class:`NaiveBayesLoss` finds, in float64."""
    check_floating("naive_bayes_fit", "embedding", embedding)
    if embedding.ndim != 2:
        raise InvalidValueError(f"naive_bayes_fit: embedding must have shape (N, D), got {shape_text(tuple(embedding.shape))}")
    loss = NaiveBayesLoss(num_classes=num_classes, embedding_dim=embedding.shape[1], eps=eps)
    loss.to(embedding.device, torch.float64).fit(embedding, target)
    return loss.means.detach(), loss.log_variance.detach(), loss.prior_logits.detach()


@objective(
    family="classification",
    function=naive_bayes,
    spatial=False,
)
class NaiveBayesLoss(Objective):
    r"""Naive Bayes: the joint negative log-likelihood of an embedding and its class.

    .. math::
        \ell(x, y) = -\log \pi_y + \frac{1}{2} \sum_j \left[ \frac{(x_j - \mu_{yj})^2}{\sigma_j^2} + \log(2 \pi \sigma_j^2) \right]

    A classifier with its own weights: Gaussians whose variances the classes share, so that the logits are linear in x. Its
    minimiser has a closed form, one pass over the data: ``fit``, or ``partial_fit`` for parts of it, in any order and with the same
    result. It needs fewer samples than logistic regression to come near its best, which is worse. Probabilities are badly
    over-confident for wide embeddings, as features are taken for independent; the ranking is fine. Trained by gradients together
    with a model it makes embeddings likely, not only separable: they can collapse.

    Args:
        num_classes: how many classes there are.
        embedding_dim: the width D of the embedding.
        eps: added to each variance in ``fit``, as a share of the largest one. For features that hardly vary (the edges of digits)
            1e-2 is better than the default.
        reduction: as in :class:`torch.nn.CrossEntropyLoss`.
    Shape: embedding (N, D); target (N,) class indices (-100 is left out), or (N, C) probabilities.
    Units: nats, of a density in x.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Zheng, Wu, Bao, Cao, Li and Zhu, "Revisiting Discriminative vs. Generative Classifiers: Theory and Implications", 2023.
        The authors add 1e-9 to the variances as it is.

    >>> loss = NaiveBayesLoss(num_classes=2, embedding_dim=1)
    >>> x, y = torch.tensor([[0.0], [2.0], [4.0], [6.0]]), torch.tensor([0, 0, 1, 1])
    >>> loss.fit(x, y)
    >>> loss(x, y).detach()
    tensor(2.1121)
    >>> loss.logits(torch.tensor([[3.0]])).softmax(1).detach()
    tensor([[0.5000, 0.5000]])
    """

    consumes = "embedding"
    eps: float
    seen: Tensor
    centre: Tensor
    scatter: Tensor

    def __init__(
        self,
        *,
        num_classes: PositiveCount,
        embedding_dim: PositiveCount,
        eps: NonNegative = 1e-9,
        reduction: Reduction = "mean",
    ):
        super().__init__(num_classes=num_classes, embedding_dim=embedding_dim, eps=eps, reduction=reduction)
        self.means = nn.Parameter(torch.empty(num_classes, embedding_dim))
        self.log_variance = nn.Parameter(torch.empty(embedding_dim))
        self.prior_logits = nn.Parameter(torch.empty(num_classes))
        # what fitting has seen: samples of each class, their mean, and the squares around it
        self.register_buffer("seen", torch.empty(num_classes, dtype=torch.int64))
        self.register_buffer("centre", torch.empty(num_classes, embedding_dim, dtype=torch.float64))
        self.register_buffer("scatter", torch.empty(embedding_dim, dtype=torch.float64))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        for value in (self.means, self.log_variance, self.prior_logits, self.seen, self.centre, self.scatter):
            value.zero_()

    def forward(self, embedding: Tensor, target: Tensor) -> Tensor:
        reduction = self.hyperparameters()["reduction"]
        return self.function(embedding, target, self.means, self.log_variance, self.prior_logits, reduction=reduction)

    def logits(self, embedding: Tensor) -> Tensor:
        """log p(x, c) up to a number that all classes share (N, C)."""
        check_embedding(self.name, embedding, self.means)
        return log_joint(embedding, self.means, self.log_variance, self.prior_logits).to(widen(embedding).dtype)

    def link(self, output: Tensor) -> Tensor:
        check_embedding(self.name, output, self.means)
        return log_joint(output, self.means, self.log_variance, self.prior_logits).softmax(1).to(output.dtype)

    @torch.no_grad()
    def fit(self, embedding: Tensor, target: Tensor) -> None:
        """Set the parameters to what minimises the loss on this data."""
        for buffer in (self.seen, self.centre, self.scatter):
            buffer.zero_()
        self.partial_fit(embedding, target)

    @torch.no_grad()
    def partial_fit(self, embedding: Tensor, target: Tensor) -> None:
        """Go on with more data: the parameters are those of everything since the last ``fit``."""
        check_embedding(self.name, embedding, self.means)
        check_integers(self.name, "target", target)
        check_shape(self.name, "target", target, (embedding.shape[0],))
        classes, ignored = class_indices(target, IGNORED)
        check_indices(self.name, "target", classes, "class indices", len(self.means))
        x, index = double(embedding[~ignored]), classes[~ignored]
        before, centre, scatter = double(self.seen), double(self.centre), double(self.scatter)  # also in a module of halves
        seen = torch.zeros_like(before).index_add(0, index, torch.ones_like(x[:, 0]))
        here = torch.zeros_like(centre).index_add(0, index, x) / seen.clamp_min(1).unsqueeze(1)
        total = before + seen
        share = (seen / total.clamp_min(1)).unsqueeze(1)
        moved = here - centre
        between = (before.unsqueeze(1) * share * moved.square()).sum(0)  # Chan's formula, for each class
        scatter = scatter + (x - here[index]).square().sum(0) + between
        centre = centre + share * moved
        self.seen.copy_(total)
        self.centre.copy_(centre)
        self.scatter.copy_(scatter)

        variance = scatter / total.sum().clamp_min(1)
        smallest = torch.finfo(torch.float32).tiny
        self.means.copy_(centre)
        self.log_variance.copy_((variance + self.eps * variance.max()).clamp_min(smallest).log())
        self.prior_logits.copy_((total / total.sum().clamp_min(1)).clamp_min(smallest).log())
