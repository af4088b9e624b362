"""Asymmetric loss for multi-label classification."""

import torch
from torch import Tensor

from lossary._core.checks import check_element_inputs
from lossary._core.objective import SigmoidObjective
from lossary._core.parameters import Fraction, NonNegative, Positive, Reduction, Vector, formula
from lossary._core.registry import SpecialCase, objective
from lossary._fast.labels.rule import Pair, average_over_labels
from lossary.losses.multilabel._common import softplus

SMALLEST = torch.finfo(torch.float32).tiny


@formula
def asymmetric(
    logits: Tensor,
    target: Tensor,
    *,
    gamma_neg: NonNegative = 4.0,
    gamma_pos: NonNegative = 0.0,
    clip: Fraction = 0.05,
    eps: Positive = 1e-8,
    detach_focusing: bool = True,
    weight: Tensor | None = None,
    pos_weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: Fraction = 0.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`AsymmetricLoss`, with the same parameters."""
    check_element_inputs("asymmetric", logits, target)
    lowest, margin = max(eps, SMALLEST), max(clip, SMALLEST)

    def costs(z: Tensor) -> Pair:
        p, q = z.sigmoid(), torch.sigmoid(-z)
        shifted = (p - clip).clamp_min(0.0) if clip else p
        focus_one, focus_zero = q.clamp_min(lowest).pow(gamma_pos), shifted.clamp_min(lowest).pow(gamma_neg)
        if detach_focusing:
            focus_one, focus_zero = focus_one.detach(), focus_zero.detach()
        # 1 - p_m from its other side, as a small margin is lost beside a p that rounds to 1; without one only the logit knows
        minus_log_not_shifted = -(q + margin).clamp_max(1.0).log() if clip else softplus(z)
        return focus_one * softplus(-z), focus_zero * minus_log_not_shifted

    return average_over_labels(
        "asymmetric",
        logits,
        target,
        costs,
        weight=weight,
        pos_weight=pos_weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
    )


@objective(
    family="multilabel",
    function=asymmetric,
    aliases=("asl",),
    tune={"gamma_neg": (0.0, 6.0), "clip": (0.0, 0.2)},
    saturates=True,  # by the margin: a negative that is utterly wrong still counts as 1 - m, at a flat place of the sigmoid
    exact_gradient_with={"detach_focusing": False},
    special_cases=[
        SpecialCase({"gamma_neg": 0.0, "gamma_pos": 0.0, "clip": 0.0}, "binary_cross_entropy"),
        SpecialCase({"gamma_neg": 2.0, "gamma_pos": 2.0, "clip": 0.0, "detach_focusing": False}, "sigmoid_focal", {"alpha": None}),
    ],
)
class AsymmetricLoss(SigmoidObjective):
    r"""Asymmetric loss: positives and negatives are focused differently, and easy negatives are dropped.

    .. math::
        \ell(z, 1) = -(1 - p)^{\gamma_+} \log p, \qquad \ell(z, 0) = -p_m^{\gamma_-} \log(1 - p_m),
        \qquad p = \sigma(z), \quad p_m = \max(p - m, 0)

    Made for many labels of which few are positive. It gives up calibration: choose thresholds anew. The logarithms are computed
    from the logits; programs that clamp probabilities at 1e-8 give a missed positive at logit -30 hardly any gradient, and in
    float16 an infinite loss. A soft target averages the two losses; programs that mix the two exponents by it are right for hard
    ones only. With a margin a negative costs -log m at most, so one that is utterly wrong has no gradient.

    Args:
        gamma_neg, gamma_pos: focusing of negatives and positives.
        clip: the probability margin m below which a negative costs nothing.
        eps: lower bound of the bases of the two powers, so that exponents below 1 have a finite slope; the logarithms need none.
        detach_focusing: treat the focusing weights as constants in the gradient, as the authors train.
        weight, pos_weight, reduction: as in :class:`torch.nn.BCEWithLogitsLoss`.
        ignore_index: elements whose target has this value are left out.
        label_smoothing: the target becomes (1 - e) y + e / 2.
    Shape: logits and target of one shape (N, \*) or (N, L, \*); target in [0, 1].
    Units: nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Ben-Baruch and others, "Asymmetric Loss For Multi-Label Classification", 2020. The authors' program sums over all
        elements; here the mean is the default, so with SGD the learning rate has to be rescaled.

    >>> AsymmetricLoss()(torch.tensor([2.0, -2.0]), torch.tensor([1.0, 1.0]))
    tensor(1.1269)
    """

    def __init__(
        self,
        *,
        gamma_neg: NonNegative = 4.0,
        gamma_pos: NonNegative = 0.0,
        clip: Fraction = 0.05,
        eps: Positive = 1e-8,
        detach_focusing: bool = True,
        weight: Vector | None = None,
        pos_weight: Vector | None = None,
        ignore_index: int = -100,
        label_smoothing: Fraction = 0.0,
        reduction: Reduction = "mean",
    ):
        super().__init__(
            gamma_neg=gamma_neg,
            gamma_pos=gamma_pos,
            clip=clip,
            eps=eps,
            detach_focusing=detach_focusing,
            weight=weight,
            pos_weight=pos_weight,
            ignore_index=ignore_index,
            label_smoothing=label_smoothing,
            reduction=reduction,
        )
