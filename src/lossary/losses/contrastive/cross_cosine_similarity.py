"""CCSL: BYOL with the other images of the batch that already look alike as further positives."""

import torch
from torch import Tensor

from lossary._core.checks import check_pair
from lossary._core.objective import widen
from lossary._core.parameters import Fraction, NonNegative, Real, SetReduction, formula
from lossary._core.registry import SpecialCase, objective
from lossary._fast.pairs.rule import Pairs, unit
from lossary.distributed import Group, Ring
from lossary.losses.contrastive._refinement import UNREACHED, SelfLabelled, mean_over_pairs


@formula
def cross_cosine_similarity(
    prediction: Tensor,
    target: Tensor,
    *,
    positive_threshold: Real = 0.8,
    negative_threshold: Real = 0.2,
    negative_weight: NonNegative = 0.0,
    group: Group = None,
    reduction: SetReduction = "mean",
) -> Tensor:
    """The pure function behind :class:`CrossCosineSimilarityLoss`, with the same parameters."""
    check_pair("cross_cosine_similarity", prediction, target, "prediction", "target")

    def positives(q: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
        chosen = (q <= 2 - 2 * positive_threshold) | pairs.itself
        return torch.where(chosen, q, 0.0).sum(1), chosen.sum(1)

    def negatives(c: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
        chosen = (c <= negative_threshold) & ~pairs.itself
        return torch.where(chosen, 2 * c.relu(), 0.0).sum(1), chosen.sum(1)

    p, z = unit(widen(prediction)), unit(widen(target.detach()))
    loss = mean_over_pairs("cross_cosine_similarity", positives, p, z, group, squares=True)
    if negative_weight > 0:
        loss = loss + negative_weight * mean_over_pairs("cross_cosine_similarity", negatives, p, z, group)
    return loss * Ring("cross_cosine_similarity", prediction, group).total if reduction == "sum" else loss


@objective(
    family="contrastive",
    function=cross_cosine_similarity,
    aliases=("ccsl",),
    soft_targets=False,
    decomposable=False,
    spatial=False,
    link="scores",
    distributed="inexact",
    special_cases=(SpecialCase(UNREACHED, "byol"),),
)
class CrossCosineSimilarityLoss(SelfLabelled):
    r"""CCSL: BYOL with the other images of the batch that already look alike as further positives.

    .. math::
        L = \frac{1}{|P|} \sum_{(i, j) \in P} (2 - 2 c_{ij}) + \lambda \frac{1}{|N|} \sum_{(i, j) \in N} 2 \max(c_{ij}, 0),
        \qquad c_{ij} = \cos(p_i, z_j)

    P holds each prediction with its own target and every pair of a cosine of at least ``positive_threshold``, N the other pairs
    of at most ``negative_threshold``; the rest is ignored. Both sets are constants in the gradient, and the target is detached.
    Call it for both orders of the views, as :class:`ByolLoss`. The pairs are seen in blocks and never held whole.

    Early in training every cosine may pass the threshold, as untrained networks give all images nearly one output; the loss
    would then pull everything together for good. With ``warmup`` it is plain BYOL for that fraction of training.

    Args:
        positive_threshold: cosines from here on make a pair positive; above 1 there are none but each sample's own.
        negative_threshold: cosines up to here make a pair negative.
        negative_weight: the weight lambda of the negatives. The paper speaks of pulling only; the default leaves them out.
        warmup: the fraction of training with BYOL's loss alone; above 0 the loss takes ``progress``.
        group: the processes whose samples are items too: None for this one alone, ``"world"``, or a process group. The mean over
            them of the loss and of its gradients is that of one process with the whole batch.
        reduction: ``"mean"`` over the chosen pairs, or ``"sum"``, which is it times N.
    Shape: prediction and target (N, D), of any length; progress, with ``warmup``, a number from 0 to 1.
    Units: squared distance on the sphere, from 0 to 4 without negatives.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Garg and Jain, "Self-Labeling Refinement for Robust Representation Learning with Bootstrap Your Own Latent", 2022. The
        thresholds are theirs. The published program does not contain the loss, so that its exact form is a reading.

    >>> p, z = torch.tensor([[1.0, 0.0], [1.0, 0.5], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> CrossCosineSimilarityLoss()(p, z), CrossCosineSimilarityLoss(positive_threshold=2.0)(p, z)
    (tensor(0.0845), tensor(0.0704))
    """

    def __init__(
        self,
        *,
        positive_threshold: Real = 0.8,
        negative_threshold: Real = 0.2,
        negative_weight: NonNegative = 0.0,
        warmup: Fraction = 0.0,
        group: Group = None,
        reduction: SetReduction = "mean",
    ):
        super().__init__(
            positive_threshold=positive_threshold,
            negative_threshold=negative_threshold,
            negative_weight=negative_weight,
            warmup=warmup,
            group=group,
            reduction=reduction,
        )
