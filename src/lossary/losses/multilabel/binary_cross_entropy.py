"""Binary cross-entropy of the sigmoid."""

from torch import Tensor

from lossary._core.checks import check_element_inputs
from lossary._core.objective import SigmoidObjective
from lossary._core.parameters import Fraction, Reduction, Vector, formula
from lossary._core.registry import objective
from lossary._fast.labels.rule import Pair, average_over_labels
from lossary.losses.multilabel._common import softplus


@formula
def binary_cross_entropy(
    logits: Tensor,
    target: Tensor,
    *,
    weight: Tensor | None = None,
    pos_weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: Fraction = 0.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`BinaryCrossEntropyLoss`, with the same parameters."""
    check_element_inputs("binary_cross_entropy", logits, target)

    def costs(z: Tensor) -> Pair:
        if_zero = softplus(z)
        return if_zero - z, if_zero

    return average_over_labels(
        "binary_cross_entropy",
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
    function=binary_cross_entropy,
    aliases=("bce", "bce_with_logits", "binary_cross_entropy_with_logits"),
    proper=True,
    tune={"label_smoothing": (0.0, 0.3)},
)
class BinaryCrossEntropyLoss(SigmoidObjective):
    r"""Cross-entropy of the sigmoid: one yes-or-no question for each element.

    .. math:: \ell(z, y) = -y \log \sigma(z) - (1 - y) \log \sigma(-z)

    The values are those of :class:`torch.nn.BCEWithLogitsLoss`; elements can be ignored, and half-precision inputs give a float32
    loss, which cannot overflow.

    Args:
        weight, pos_weight, reduction: as in :class:`torch.nn.BCEWithLogitsLoss`.
        ignore_index: elements whose target has this value are left out.
        label_smoothing: the target becomes (1 - e) y + e / 2.
    Shape: logits and target of one shape (N, \*) or (N, L, \*); target in [0, 1].
    Units: nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: textbook; the binary logarithmic score (Good, "Rational Decisions", 1952).

    >>> BinaryCrossEntropyLoss()(torch.tensor([2.0, -2.0]), torch.tensor([1.0, 1.0]))
    tensor(1.1269)
    """

    def __init__(
        self,
        *,
        weight: Vector | None = None,
        pos_weight: Vector | None = None,
        ignore_index: int = -100,
        label_smoothing: Fraction = 0.0,
        reduction: Reduction = "mean",
    ):
        super().__init__(
            weight=weight, pos_weight=pos_weight, ignore_index=ignore_index, label_smoothing=label_smoothing, reduction=reduction
        )
