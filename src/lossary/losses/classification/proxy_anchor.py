"""Proxy-Anchor: each class's proxy pulls its samples of the batch and pushes all others."""

import torch
from torch import Tensor

from lossary._core.checks import check_undivided
from lossary._core.objective import class_indices, widen
from lossary._core.parameters import NonNegative, Positive, PositiveCount, SetReduction, formula
from lossary._core.registry import objective
from lossary._fast.pairs.rule import Pairs, log_sum_exp, sum_over_rows, unit
from lossary.losses.classification._common import without_ignored
from lossary.losses.classification._embedding import (
    CosineClassifier,
    check_embedding,
    check_embedding_and_index,
    of_one_class,
    scaled_cosines,
)


@formula
def proxy_anchor(
    embedding: Tensor,
    target: Tensor,
    weight: Tensor,
    *,
    alpha: Positive = 32.0,
    margin: NonNegative = 0.1,
    ignore_index: int = -100,
    reduction: SetReduction = "mean",
) -> Tensor:
    """The pure function behind :class:`ProxyAnchorLoss`, with the same parameters and the proxies ``weight`` (C, D)."""
    check_embedding_and_index("proxy_anchor", embedding, target, weight)
    check_undivided("proxy_anchor", embedding)
    x = widen(without_ignored(embedding, target, ignore_index))
    w = weight.to(x.dtype)
    if not x.shape[0]:
        return 0.0 * (x.sum() + w.sum())
    num_classes = w.shape[0]
    index, ignored = class_indices(target, ignore_index)
    kept = ~ignored
    occurs = torch.zeros_like(w[:, 0]).scatter_reduce(0, index, kept.to(w.dtype), "amax")

    u, v = unit(w), unit(x)
    # A sample pulls one proxy alone: its cosine stands in a list, and the blocks below hold the pushes.
    alike = -alpha * ((u[index] * v).sum(1) - margin)
    largest = torch.zeros_like(occurs).scatter_reduce(0, index, alike.detach().masked_fill(~kept, 0.0), "amax")  # of the 1, too
    total = (-largest).exp().index_add(0, index, (alike - largest[index]).exp().masked_fill(~kept, 0.0))
    pull = (total.log() + largest).sum() / occurs.sum().clamp_min(1)

    def pushes(s: Tensor, pairs: Pairs) -> tuple[Tensor]:
        (counts,) = pairs.item_sides
        push = log_sum_exp(s, ~of_one_class(pairs) & counts) + alpha * margin
        return (torch.nn.functional.softplus(push, threshold=40) / num_classes,)

    labels = torch.arange(num_classes, device=x.device)
    (push,) = sum_over_rows(pushes, alpha * u, v, labels=labels, item_labels=index, item_sides=(kept,))
    loss = pull + push
    return loss * kept.sum() if reduction == "sum" else loss


@objective(
    family="classification",
    function=proxy_anchor,
    soft_targets=False,
    decomposable=False,
    spatial=False,
    link="ranking",
    distributed="inexact",
    tune={"alpha": (8.0, 64.0), "margin": (0.0, 0.3)},
)
class ProxyAnchorLoss(CosineClassifier):
    r"""Proxy-Anchor: each class has a learned proxy that pulls its samples of the batch and pushes all others.

    .. math::
        \mathcal{L} = \frac{1}{|P^+|} \sum_{p \in P^+} \log\Bigl(1 + \sum_{i : y_i = p} e^{-\alpha(\cos(x_i, w_p) - \delta)}\Bigr)
        + \frac{1}{|P|} \sum_{p} \log\Bigl(1 + \sum_{i : y_i \ne p} e^{\alpha(\cos(x_i, w_p) + \delta)}\Bigr)

    with the classes P, and those P+ that occur in the batch. A classifier with its own weights, trained as a function of the batch
    as a whole: a proxy gives more of its force to harder samples, by which samples of a batch see each other. ``link`` ranks
    classes by their cosines.

    Args:
        num_classes: how many classes there are.
        embedding_dim: the width D of the embedding.
        alpha: how much more force harder samples get.
        margin: delta; samples of a class are pulled until their cosine exceeds it, others pushed until it is below its negative.
        ignore_index: samples of this class are left out.
        reduction: ``"mean"``, the formula above, or ``"sum"``, which is that times the number of samples.
    Shape: embedding (N, D); target (N,) class indices.
    Units: none.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Kim, Kim, Cho and Kwak, "Proxy Anchor Loss for Deep Metric Learning", 2020.

    >>> loss = ProxyAnchorLoss(num_classes=2, embedding_dim=2, alpha=1.0, margin=0.0)
    >>> _ = torch.nn.init.eye_(loss.weight)
    >>> loss(torch.tensor([[3.0, 4.0]]), torch.tensor([0])).detach()  # log(1 + exp(-0.6)) and half of log(1 + exp(0.8))
    tensor(1.0230)
    """

    alpha: float

    def __init__(
        self,
        *,
        num_classes: PositiveCount,
        embedding_dim: PositiveCount,
        alpha: Positive = 32.0,
        margin: NonNegative = 0.1,
        ignore_index: int = -100,
        reduction: SetReduction = "mean",
    ):
        super().__init__(
            num_classes=num_classes,
            embedding_dim=embedding_dim,
            alpha=alpha,
            margin=margin,
            ignore_index=ignore_index,
            reduction=reduction,
        )

    def link(self, output: Tensor) -> Tensor:
        check_embedding(self.name, output, self.weight)
        return scaled_cosines(output, self.weight, self.alpha).softmax(1).to(output.dtype)
