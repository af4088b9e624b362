"""Dual focal loss: the focal factor also looks at the runner-up."""

from torch import Tensor

from lossary._core.checks import check_class_inputs
from lossary._core.objective import SoftmaxObjective
from lossary._core.parameters import Fraction, NonNegative, Reduction, Vector, formula
from lossary._core.registry import SpecialCase, objective
from lossary._fast.classes.rule import Rows, average_over_rows
from lossary.losses.classification._common import power


@formula
def dual_focal(
    logits: Tensor,
    target: Tensor,
    *,
    gamma: NonNegative = 5.0,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: Fraction = 0.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`DualFocalLoss`, with the same parameters."""
    check_class_inputs("dual_focal", logits, target, weight)

    def if_class(row: Rows) -> Tensor:
        return -power(1 - row.log_p.exp() + row.lower_log_p.exp(), gamma) * row.log_p

    return average_over_rows(
        logits,
        target,
        if_class,
        needs=("log_p", "lower_log_p"),
        weight=weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
    )


@objective(
    family="classification",
    function=dual_focal,
    tune={"gamma": (0.5, 8.0)},
    special_cases=[SpecialCase({"gamma": 0.0}, "cross_entropy")],
)
class DualFocalLoss(SoftmaxObjective):
    r"""Focal loss whose factor also contains the largest probability below the true class's own.

    .. math:: \ell(z, y) = -(1 - p_y + p_j)^\gamma \log p_y, \qquad p_j = \max \{p_k : p_k < p_y\} \text{ or } 0

    The factor turns a sample down only when its class leads by much, which mends the focal loss's lack of confidence. Ties are
    told apart by comparing logits, which rounding does not join or part as it does probabilities (compared by the authors' program,
    which also dies of a batch of one); the runner-up has a gradient too.

    Args:
        gamma: how strongly clear cases are turned down; 0 is cross-entropy. The paper chooses it by validation, about 5.
        weight, ignore_index, label_smoothing, reduction: as in :class:`torch.nn.CrossEntropyLoss`.
    Shape: logits (N, C, \*); target (N, \*) class indices, or (N, C, \*) probabilities.
    Units: nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Tao, Dong and Xu, "Dual Focal Loss for Calibration", 2023. The authors' program sums by default and has gamma 0; here
        the mean is the default, as everywhere, and gamma is 5.

    >>> DualFocalLoss(gamma=1.0)(torch.tensor([[2.0, 0.0, -2.0]]), torch.tensor([0]))
    tensor(0.0358)
    """

    def __init__(
        self,
        *,
        gamma: NonNegative = 5.0,
        weight: Vector | None = None,
        ignore_index: int = -100,
        label_smoothing: Fraction = 0.0,
        reduction: Reduction = "mean",
    ):
        super().__init__(
            gamma=gamma, weight=weight, ignore_index=ignore_index, label_smoothing=label_smoothing, reduction=reduction
        )
