"""PolyLoss on top of the focal loss."""

import torch
from torch import Tensor

from lossary._core.checks import check_element_inputs
from lossary._core.objective import SigmoidObjective
from lossary._core.parameters import Fraction, NonNegative, Real, Reduction, Vector, formula
from lossary._core.registry import SpecialCase, objective
from lossary._fast.labels.rule import Pair, average_over_labels
from lossary.losses.multilabel._common import power_of_sigmoid, softplus


@formula
def poly_focal(
    logits: Tensor,
    target: Tensor,
    *,
    epsilon: Real = -1.0,
    gamma: NonNegative = 2.0,
    alpha: Fraction | None = 0.25,
    weight: Tensor | None = None,
    pos_weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: Fraction = 0.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`PolyFocalLoss`, with the same parameters."""
    check_element_inputs("poly_focal", logits, target)
    share_one, share_zero = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)

    def costs(z: Tensor) -> Pair:
        one, zero = share_one * power_of_sigmoid(-z, gamma), share_zero * power_of_sigmoid(z, gamma)
        return one * (softplus(-z) + epsilon * torch.sigmoid(-z)), zero * (softplus(z) + epsilon * z.sigmoid())

    return average_over_labels(
        "poly_focal",
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
    function=poly_focal,
    tune={"epsilon": (-1.0, 4.0), "gamma": (0.5, 5.0)},
    special_cases=[SpecialCase({"epsilon": 0.0}, "sigmoid_focal")],
)
class PolyFocalLoss(SigmoidObjective):
    r"""Poly-1 on top of the focal loss for independent labels.

    .. math:: \ell = \alpha_t \left[ -(1 - p_t)^\gamma \log p_t + \epsilon (1 - p_t)^{\gamma + 1} \right]

    with p_t the probability of the right answer: p for positives, 1 - p for negatives. The paper does not say whether alpha
    weights the added term; here it does.

    Args:
        epsilon: the change of the first coefficient; 0 is ``sigmoid_focal``.
        gamma: how strongly easy elements are turned down.
        alpha: the weight of positives, against 1 - alpha for negatives; None weights neither.
        weight, pos_weight, reduction: as in :class:`torch.nn.BCEWithLogitsLoss`.
        ignore_index: elements whose target has this value are left out.
        label_smoothing: the target becomes (1 - e) y + e / 2.
    Shape: logits and target of one shape (N, \*) or (N, L, \*); target in [0, 1].
    Units: nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Leng et al., "PolyLoss: A Polynomial Expansion Perspective of Classification Loss Functions", 2022.

    >>> PolyFocalLoss()(torch.tensor([2.0, -2.0]), torch.tensor([1.0, 1.0]))
    tensor(0.1209)
    """

    def __init__(
        self,
        *,
        epsilon: Real = -1.0,
        gamma: NonNegative = 2.0,
        alpha: Fraction | None = 0.25,
        weight: Vector | None = None,
        pos_weight: Vector | None = None,
        ignore_index: int = -100,
        label_smoothing: Fraction = 0.0,
        reduction: Reduction = "mean",
    ):
        super().__init__(
            epsilon=epsilon,
            gamma=gamma,
            alpha=alpha,
            weight=weight,
            pos_weight=pos_weight,
            ignore_index=ignore_index,
            label_smoothing=label_smoothing,
            reduction=reduction,
        )
