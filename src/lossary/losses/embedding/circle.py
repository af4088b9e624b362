"""Circle loss: each similarity is weighted by how far it is from its optimum."""

from collections.abc import Callable

import torch
from torch import Tensor

from lossary._core.parameters import Fraction, Positive, Reduction, formula
from lossary._core.registry import objective
from lossary._fast.pairs.rule import Kernel, Pairs, log_sum_exp
from lossary.distributed import Group
from lossary.losses.embedding._common import MetricObjective, average_over_anchors, check_embedding_and_labels


@formula
def circle(
    embedding: Tensor,
    labels: Tensor,
    *,
    margin: Fraction = 0.4,
    gamma: Positive = 80.0,
    group: Group = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`CircleLoss`, with the same parameters."""
    check_embedding_and_labels("circle", embedding, labels)

    def row(s: Tensor, pairs: Pairs) -> tuple[Tensor, ...]:
        to_positive, to_negative = (1 + margin - s.detach()).relu(), (s.detach() + margin).relu()
        z = gamma * torch.where(pairs.same, -to_positive * (s - (1 - margin)), to_negative * (s - margin))
        usable = pairs.positive.any(1) & pairs.negative.any(1)
        both = log_sum_exp(z, pairs.positive) + log_sum_exp(z, pairs.negative)
        value = torch.nn.functional.softplus(torch.where(usable, both, 0.0), threshold=40)
        return torch.where(usable, value, 0.0), usable.to(s.dtype)

    return average_over_anchors("circle", row, Kernel(_loop, 2, (margin, gamma)), embedding, labels, group, reduction)


def _loop() -> Callable[..., None]:
    from lossary._fast.pairs import loops as pairs_loops

    return pairs_loops.circle  # type: ignore[no-any-return]


@objective(
    family="embedding",
    function=circle,
    soft_targets=False,
    decomposable=False,
    spatial=False,
    link="value",
    distributed="inexact",
    tune={"margin": (0.1, 0.5), "gamma": (16.0, 256.0)},
    waivers={"gradcheck_float64": "the weights of the pairs are constants in the gradient, as the paper has them"},
)
class CircleLoss(MetricObjective):
    r"""Circle loss: each similarity is weighted by how far it is from its optimum.

    .. math:: \ell_i = \log \Bigl( 1 + \sum_{n} e^{\gamma \alpha_n (s_n - m)} \sum_{p} e^{-\gamma \alpha_p (s_p - (1 - m))} \Bigr),
        \qquad \alpha_p = [1 + m - s_p]_+, \quad \alpha_n = [s_n + m]_+

    with s the cosine of the anchor with its positives p and negatives n. The weights alpha are constants in the gradient. The
    boundary of decision is a circle around (0, 1) in the plane of the two similarities. The mean is over anchors that have both
    a positive and a negative. Its memory does not grow with the square of the batch.

    Args:
        margin: the relaxation m; 0.4 for retrieval, 0.25 for faces and persons.
        gamma: the scale of the similarities; 80 for retrieval, 128 for persons, 256 for faces.
        group: the processes whose samples are items too, each process having its own anchors: None for this one alone, ``"world"``,
            or a process group; the mean over the processes of the loss and of every gradient is what one would find on all samples.
        reduction: over the anchors; with ``"none"`` an anchor without a positive or a negative is 0.
    Shape: embedding (N, D); labels (N,) integers.
    Units: nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Sun, Cheng, Zhang, Zhang, Zheng, Wang and Wei, "Circle Loss: A Unified Perspective of Pair Similarity Optimization",
        2020: the form for labels of pairs.

    >>> CircleLoss()(torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]), torch.tensor([0, 0, 1]))
    tensor(19.2000)
    """

    def __init__(self, *, margin: Fraction = 0.4, gamma: Positive = 80.0, group: Group = None, reduction: Reduction = "mean"):
        super().__init__(margin=margin, gamma=gamma, group=group, reduction=reduction)
