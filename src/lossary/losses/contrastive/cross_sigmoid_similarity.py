"""CSSL: as CCSL, by the sigmoid of scaled cosines."""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from lossary._core.checks import check_pair
from lossary._core.objective import widen
from lossary._core.parameters import Fraction, NonNegative, Positive, Real, SetReduction, formula
from lossary._core.registry import objective
from lossary._fast.pairs.rule import Pairs, unit
from lossary.distributed import Group, Ring
from lossary.losses.contrastive._refinement import SelfLabelled, mean_over_pairs


@formula
def cross_sigmoid_similarity(
    prediction: Tensor,
    target: Tensor,
    *,
    positive_threshold: Real = 0.8,
    negative_threshold: Real = 0.2,
    negative_weight: NonNegative = 0.0,
    scale: Positive = 5.0,
    group: Group = None,
    reduction: SetReduction = "mean",
) -> Tensor:
    """The pure function behind :class:`CrossSigmoidSimilarityLoss`, with the same parameters."""
    check_pair("cross_sigmoid_similarity", prediction, target, "prediction", "target")

    def positives(c: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
        u = scale * c
        chosen = (u.sigmoid() >= positive_threshold) | pairs.itself
        return torch.where(chosen, softplus(-u), 0.0).sum(1), chosen.sum(1)

    def negatives(c: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
        u = scale * c
        chosen = (u.sigmoid() <= negative_threshold) & ~pairs.itself
        return torch.where(chosen, softplus(u), 0.0).sum(1), chosen.sum(1)

    p, z = unit(widen(prediction)), unit(widen(target.detach()))
    loss = mean_over_pairs("cross_sigmoid_similarity", positives, p, z, group)
    if negative_weight > 0:
        loss = loss + negative_weight * mean_over_pairs("cross_sigmoid_similarity", negatives, p, z, group)
    return loss * Ring("cross_sigmoid_similarity", prediction, group).total if reduction == "sum" else loss


@objective(
    family="contrastive",
    function=cross_sigmoid_similarity,
    aliases=("cssl",),
    soft_targets=False,
    decomposable=False,
    spatial=False,
    link="scores",
    distributed="inexact",
)
class CrossSigmoidSimilarityLoss(SelfLabelled):
    r"""CSSL: BYOL with the other images of the batch that already look alike as positives, by the sigmoid of their cosine.

    .. math::
        L = \frac{1}{|P|} \sum_{(i, j) \in P} -\log \sigma(u_{ij})
        + \lambda \frac{1}{|N|} \sum_{(i, j) \in N} -\log \sigma(-u_{ij}),
        \qquad u_{ij} = s \cos(p_i, z_j)

    P holds each prediction with its own target and every pair with :math:`\sigma(u)` of at least ``positive_threshold``, N the
    other pairs of at most ``negative_threshold``; the rest is ignored. Both sets are constants in the gradient, and the target is
    detached. Call it for both orders of the views, as :class:`ByolLoss`. The pairs are seen in blocks and never held whole.

    A sigmoid of 0.8 is a cosine of only 0.28 at the default scale, so far more pairs are positive than in
    :class:`CrossCosineSimilarityLoss`; use ``warmup`` at the start of training, when all outputs are nearly one.

    Args:
        positive_threshold: sigmoids from here on make a pair positive; above 1 there are none but each sample's own.
        negative_threshold: sigmoids up to here make a pair negative.
        negative_weight: the weight lambda of the negatives. The paper speaks of pulling only; the default leaves them out.
        scale: the factor s of the cosines.
        warmup: the fraction of training in which each sample's own target is the only positive; above 0 the loss takes
            ``progress``.
        group: the processes whose samples are items too: None for this one alone, ``"world"``, or a process group. The mean over
            them of the loss and of its gradients is that of one process with the whole batch.
        reduction: ``"mean"`` over the chosen pairs, or ``"sum"``, which is it times N.
    Shape: prediction and target (N, D), of any length; progress, with ``warmup``, a number from 0 to 1.
    Units: nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Garg and Jain, "Self-Labeling Refinement for Robust Representation Learning with Bootstrap Your Own Latent", 2022. The
        thresholds are theirs. The published program does not contain the loss, so that its exact form and the scale are a reading.

    >>> p, z = torch.tensor([[1.0, 0.0], [1.0, 0.5], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> CrossSigmoidSimilarityLoss()(p, z), CrossSigmoidSimilarityLoss(positive_threshold=2.0)(p, z)
    (tensor(0.0241), tensor(0.0083))
    """

    def __init__(
        self,
        *,
        positive_threshold: Real = 0.8,
        negative_threshold: Real = 0.2,
        negative_weight: NonNegative = 0.0,
        scale: Positive = 5.0,
        warmup: Fraction = 0.0,
        group: Group = None,
        reduction: SetReduction = "mean",
    ):
        super().__init__(
            positive_threshold=positive_threshold,
            negative_threshold=negative_threshold,
            negative_weight=negative_weight,
            scale=scale,
            warmup=warmup,
            group=group,
            reduction=reduction,
        )
