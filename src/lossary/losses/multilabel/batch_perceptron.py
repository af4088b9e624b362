"""The batch perceptron: only samples on the wrong side count, in proportion to how far they are."""

from torch import Tensor

from lossary._core.checks import check_element_inputs
from lossary._core.objective import SigmoidObjective
from lossary._core.parameters import Fraction, Reduction, Vector, formula
from lossary._core.registry import objective
from lossary._fast.labels.rule import Pair, average_over_labels


@formula
def batch_perceptron(
    logits: Tensor,
    target: Tensor,
    *,
    weight: Tensor | None = None,
    pos_weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: Fraction = 0.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`BatchPerceptronLoss`, with the same parameters."""
    check_element_inputs("batch_perceptron", logits, target)

    def costs(z: Tensor) -> Pair:
        size = z.abs()  # its slope at 0 is 0, which gives the losses there half of their slope
        return (size - z) / 2, (size + z) / 2

    return average_over_labels(
        "batch_perceptron",
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
    function=batch_perceptron,
    link="ranking",
    value_is_objective=False,  # smaller logits make it smaller, whether they are right or not: at zero logits it is 0
)
class BatchPerceptronLoss(SigmoidObjective):
    r"""How far the samples on the wrong side are from the boundary: the limit of logistic regression with huge steps.

    .. math:: \ell(z, y) = \max(0, -s z), \qquad s = 2y - 1

    The slope at z = 0 is half of that on the wrong side, as in the limit. The predicted sides are all that means something: scaling
    the logits down makes the loss smaller, so do not stop early on it, and ``link``, a sigmoid, is a ranking.

    Args:
        weight, pos_weight, reduction: as in :class:`torch.nn.BCEWithLogitsLoss`.
        ignore_index: elements whose target has this value are left out.
        label_smoothing: the target becomes (1 - e) y + e / 2.
    Shape: logits and target of one shape (N, \*) or (N, L, \*); target in [0, 1].
    Units: those of the logits.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Tyurin, "From Logistic Regression to the Perceptron Algorithm: Exploring Gradient Descent with Large Step Sizes",
        2024: the method that logistic regression tends to as its step grows; the loss is Rosenblatt's, 1958.

    >>> BatchPerceptronLoss()(torch.tensor([2.0, -3.0]), torch.tensor([1.0, 1.0]))
    tensor(1.5000)
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
