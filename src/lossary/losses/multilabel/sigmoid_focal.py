"""Focal loss of the sigmoid."""

from torch import Tensor

from lossary._core.checks import check_element_inputs
from lossary._core.objective import SigmoidObjective
from lossary._core.parameters import Fraction, NonNegative, Reduction, Vector, formula
from lossary._core.registry import SpecialCase, objective
from lossary._fast.labels.rule import Pair, average_over_labels
from lossary.losses.multilabel._common import power_of_sigmoid, softplus


@formula
def sigmoid_focal(
    logits: Tensor,
    target: Tensor,
    *,
    gamma: NonNegative = 2.0,
    alpha: Fraction | None = 0.25,
    weight: Tensor | None = None,
    pos_weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: Fraction = 0.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`SigmoidFocalLoss`, with the same parameters."""
    check_element_inputs("sigmoid_focal", logits, target)
    share_one, share_zero = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)

    def costs(z: Tensor) -> Pair:
        one, zero = share_one * power_of_sigmoid(-z, gamma), share_zero * power_of_sigmoid(z, gamma)
        return one * softplus(-z), zero * softplus(z)

    return average_over_labels(
        "sigmoid_focal",
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
    function=sigmoid_focal,
    tune={"gamma": (0.5, 5.0), "alpha": (0.1, 0.9)},
    special_cases=[SpecialCase({"gamma": 0.0, "alpha": None}, "binary_cross_entropy")],
)
class SigmoidFocalLoss(SigmoidObjective):
    r"""Focal loss for independent labels: binary cross-entropy that turns down elements which are already right.

    .. math::
        \ell(z, 1) = -\alpha (1 - p)^\gamma \log p, \qquad \ell(z, 0) = -(1 - \alpha)\, p^\gamma \log(1 - p),
        \qquad p = \sigma(z)

    A soft target averages the two, as for every loss here; torchvision's version mixes the target into the power instead, which
    differs strictly between 0 and 1.

    Args:
        gamma: how strongly easy elements are turned down; 0 is a weighted binary cross-entropy.
        alpha: the weight of positives, against 1 - alpha for negatives; None weights neither.
        weight, pos_weight, reduction: as in :class:`torch.nn.BCEWithLogitsLoss`.
        ignore_index: elements whose target has this value are left out.
        label_smoothing: the target becomes (1 - e) y + e / 2.
    Shape: logits and target of one shape (N, \*) or (N, L, \*); target in [0, 1].
    Units: nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Lin, Goyal, Girshick, He and Dollar, "Focal Loss for Dense Object Detection", 2017.

    >>> SigmoidFocalLoss()(torch.tensor([2.0, -2.0]), torch.tensor([1.0, 1.0]))
    tensor(0.2065)
    """

    def __init__(
        self,
        *,
        gamma: NonNegative = 2.0,
        alpha: Fraction | None = 0.25,
        weight: Vector | None = None,
        pos_weight: Vector | None = None,
        ignore_index: int = -100,
        label_smoothing: Fraction = 0.0,
        reduction: Reduction = "mean",
    ):
        super().__init__(
            gamma=gamma,
            alpha=alpha,
            weight=weight,
            pos_weight=pos_weight,
            ignore_index=ignore_index,
            label_smoothing=label_smoothing,
            reduction=reduction,
        )
