"""Comp-sum losses: one family from the sum-exponential loss over cross-entropy to the mean absolute error."""

from torch import Tensor

from lossary._core.checks import check_class_inputs
from lossary._core.objective import SoftmaxObjective
from lossary._core.parameters import Fraction, NonNegative, Reduction, Vector, formula
from lossary._core.registry import SpecialCase, objective
from lossary._fast.classes.rule import Rows, average_over_rows
from lossary.losses.classification._comp_sum import comp_sum_of


@formula
def comp_sum(
    logits: Tensor,
    target: Tensor,
    *,
    tau: NonNegative = 1.0,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: Fraction = 0.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`CompSumLoss`, with the same parameters."""
    check_class_inputs("comp_sum", logits, target, weight)

    def if_class(row: Rows) -> Tensor:
        return comp_sum_of(row.log_p, tau)

    return average_over_rows(
        logits,
        target,
        if_class,
        weight=weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
    )


@objective(
    family="classification",
    function=comp_sum,
    proper=True,  # at tau = 1, the default
    tune={"tau": (0.5, 1.9)},
    special_cases=[SpecialCase({"tau": 1.0}, "cross_entropy")],
)
class CompSumLoss(SoftmaxObjective):
    r"""Comp-sum loss: how much the sum over the wrong classes counts is one number, tau.

    .. math::
        \ell(z, y) = \frac{(1 + u)^{1 - \tau} - 1}{1 - \tau}, \qquad
        u = \sum_{j \ne y} e^{z_j - z_y} = \frac{1 - p_y}{p_y}

    tau = 0 is the sum-exponential loss 1/p - 1, 1 is cross-entropy, 1 + q the generalised cross-entropy (1 - p^q)/q, and 2 is
    1 - p, half of the mean absolute error. Larger values forgive wrong labels and learn slowly from a bad start.

    Below 1 the loss grows like a power of 1/p; where its slope reaches e^10 it goes on as a straight line, so that no finite logit
    overflows.

    Args:
        tau: at least 0; smaller is harsher to mistakes.
        weight, ignore_index, label_smoothing, reduction: as in :class:`torch.nn.CrossEntropyLoss`.
    Shape: logits (N, C, \*); target (N, \*) class indices, or (N, C, \*) probabilities.
    Units: nats at tau = 1, none otherwise.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Mao, Mohri and Zhong, "Cross-Entropy Loss Functions: Theoretical Analysis and Applications", 2023.

    >>> CompSumLoss(tau=2.0)(torch.tensor([[2.0, 0.0, -2.0]]), torch.tensor([0]))
    tensor(0.1332)
    """

    def __init__(
        self,
        *,
        tau: NonNegative = 1.0,
        weight: Vector | None = None,
        ignore_index: int = -100,
        label_smoothing: Fraction = 0.0,
        reduction: Reduction = "mean",
    ):
        super().__init__(tau=tau, weight=weight, ignore_index=ignore_index, label_smoothing=label_smoothing, reduction=reduction)
