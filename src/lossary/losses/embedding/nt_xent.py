"""NT-Xent: each positive pair against the anchor's negatives."""

from collections.abc import Callable

import torch
from torch import Tensor

from lossary._core.parameters import Positive, Reduction, formula
from lossary._core.registry import objective
from lossary._fast.pairs.rule import Kernel, Pairs, log_sum_exp
from lossary.distributed import Group
from lossary.losses.embedding._common import MetricObjective, average_over_anchors, check_embedding_and_labels


@formula
def nt_xent(
    embedding: Tensor, labels: Tensor, *, temperature: Positive = 0.07, group: Group = None, reduction: Reduction = "mean"
) -> Tensor:
    """The pure function behind :class:`NTXentLoss`, with the same parameters."""
    check_embedding_and_labels("nt_xent", embedding, labels)

    def row(s: Tensor, pairs: Pairs) -> tuple[Tensor, ...]:
        z, positive = s / temperature, pairs.positive
        each = torch.nn.functional.softplus(log_sum_exp(z, pairs.negative)[:, None] - z, threshold=40)
        return each.masked_fill(~positive, 0.0).sum(1), positive.sum(1).to(s.dtype)

    return average_over_anchors("nt_xent", row, Kernel(_loop, 2, (temperature,)), embedding, labels, group, reduction)


def _loop() -> Callable[..., None]:
    from lossary._fast.pairs import loops as pairs_loops

    return pairs_loops.nt_xent  # type: ignore[no-any-return]


@objective(
    family="embedding",
    function=nt_xent,
    soft_targets=False,
    decomposable=False,
    spatial=False,
    link="value",
    distributed="inexact",
    tune={"temperature": (0.05, 0.5)},
)
class NTXentLoss(MetricObjective):
    r"""NT-Xent: normalised, temperature-scaled cross-entropy of each positive pair against the anchor's negatives.

    .. math:: \ell_{ip} = -\log \frac{e^{s_{ip} / \tau}}{e^{s_{ip} / \tau} + \sum_{n : y_n \ne y_i} e^{s_{in} / \tau}}

    with s the cosine. The mean is over all pairs of an anchor i and a positive p of its label. For two views of each sample, as in
    SimCLR, the sample is the label: ``loss(torch.cat([a, b]), torch.arange(len(a)).repeat(2))``. Other positives of the anchor
        are not
    in its denominator, in which ``sup_con`` differs. Its memory does not grow with the square of the batch; programs that list all
    positive pairs beside all negative ones need the cube.

    Args:
        temperature: divides the cosines.
        group: the processes whose samples are items too, each process having its own anchors: None for this one alone, ``"world"``,
            or a process group; the mean over the processes of the loss and of every gradient is what one would find on all samples.
        reduction: over the positive pairs; ``"none"`` gives each anchor's sum over its positives.
    Shape: embedding (N, D); labels (N,) integers.
    Units: nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Chen, Kornblith, Norouzi and Hinton, "A Simple Framework for Contrastive Learning of Visual Representations", 2020, with
        labels as in the library PyTorch Metric Learning.

    >>> NTXentLoss()(torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]), torch.tensor([0, 0, 1]))
    tensor(1.4566)
    """

    def __init__(self, *, temperature: Positive = 0.07, group: Group = None, reduction: Reduction = "mean"):
        super().__init__(temperature=temperature, group=group, reduction=reduction)
