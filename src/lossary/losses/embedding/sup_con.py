"""Supervised contrastive loss: every sample of the class is a positive, outside the logarithm."""

from collections.abc import Callable

import torch
from torch import Tensor

from lossary._core.parameters import Positive, Reduction, formula
from lossary._core.registry import objective
from lossary._fast.pairs.rule import Kernel, Pairs, log_sum_exp
from lossary.distributed import Group
from lossary.losses.embedding._common import MetricObjective, average_over_anchors, check_embedding_and_labels


@formula
def sup_con(
    embedding: Tensor, labels: Tensor, *, temperature: Positive = 0.1, group: Group = None, reduction: Reduction = "mean"
) -> Tensor:
    """The pure function behind :class:`SupConLoss`, with the same parameters."""
    check_embedding_and_labels("sup_con", embedding, labels)

    def row(s: Tensor, pairs: Pairs) -> tuple[Tensor, ...]:
        z, positive = s / temperature, pairs.positive
        count = positive.sum(1).to(s.dtype)
        mean = z.masked_fill(~positive, 0.0).sum(1) / count.clamp_min(1)
        has_any = count > 0
        log_sum = torch.where(has_any, log_sum_exp(z, ~pairs.itself), 0.0)
        return log_sum - mean, has_any.to(s.dtype)

    return average_over_anchors("sup_con", row, Kernel(_loop, 2, (temperature,)), embedding, labels, group, reduction)


def _loop() -> Callable[..., None]:
    from lossary._fast.pairs import loops as pairs_loops

    return pairs_loops.sup_con  # type: ignore[no-any-return]


@objective(
    family="embedding",
    function=sup_con,
    aliases=("supervised_contrastive",),
    soft_targets=False,
    decomposable=False,
    spatial=False,
    link="value",
    distributed="inexact",
    tune={"temperature": (0.05, 0.5)},
)
class SupConLoss(MetricObjective):
    r"""Supervised contrastive loss: every other sample of the anchor's class is a positive.

    .. math:: \ell_i = -\frac{1}{|P_i|} \sum_{p \in P_i} \log \frac{e^{s_{ip} / \tau}}{\sum_{a \ne i} e^{s_{ia} / \tau}}

    with s the cosine, the form with the sum outside of the logarithm, which the paper found better. The mean is over the anchors
    that have a positive. The authors' program multiplies it by temperature / 0.07, which is a factor of the learning rate and is
    left out. Its memory does not grow with the square of the batch.

    Args:
        temperature: divides the cosines.
        group: the processes whose samples are items too, each process having its own anchors: None for this one alone, ``"world"``,
            or a process group; the mean over the processes of the loss and of every gradient is what one would find on all samples.
        reduction: over the anchors; with ``"none"`` an anchor without a positive is 0.
    Shape: embedding (N, D); labels (N,) integers.
    Units: nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Khosla, Teterwak, Wang, Sarna, Tian, Isola, Maschinot, Liu and Krishnan, "Supervised Contrastive Learning", 2020: L_out.

    >>> SupConLoss()(torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]), torch.tensor([0, 0, 1]))
    tensor(1.0647)
    """

    def __init__(self, *, temperature: Positive = 0.1, group: Group = None, reduction: Reduction = "mean"):
        super().__init__(temperature=temperature, group=group, reduction=reduction)
