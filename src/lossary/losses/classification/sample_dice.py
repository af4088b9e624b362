"""Sample-level Dice: the overlap score of every sample alone, averaged."""

import torch
from torch import Tensor

from lossary._core.checks import check_class_inputs
from lossary._core.objective import SoftmaxObjective
from lossary._core.parameters import Fraction, NonNegative, Reduction, Vector, formula
from lossary._core.registry import objective
from lossary._fast.classes.rule import Rows, average_over_rows
from lossary.losses.classification._common import Exponent


@formula
def sample_dice(
    logits: Tensor,
    target: Tensor,
    *,
    smooth: NonNegative = 1.0,
    power: Exponent = 2.0,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: Fraction = 0.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`SampleDiceLoss`, with the same parameters."""
    check_class_inputs("sample_dice", logits, target, weight)

    def if_absent(p: Tensor, _: Tensor) -> Tensor:
        """One minus the score of a probability against 0."""
        size = p.pow(power)
        return size / (size + smooth) if smooth else torch.ones_like(p)

    def if_class(row: Rows) -> Tensor:
        p = row.log_p.exp()
        if_present = (p.pow(power) + 1 - 2 * p) / (p.pow(power) + 1 + smooth)
        return (row.total - if_absent(p, row.log_p) + if_present) / row.classes

    return average_over_rows(
        logits,
        target,
        if_class,
        needs=("log_p", "total", "classes"),
        total=if_absent,
        weight=weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
    )


@objective(
    family="classification",
    function=sample_dice,
    saturates=True,  # by its square of the probability, and by the softmax
    tune={"smooth": (0.1, 2.0)},
)
class SampleDiceLoss(SoftmaxObjective):
    r"""Sample-level Dice: one minus the overlap of prediction and label, for each sample alone, averaged.

    .. math::
        \ell(z, y) = 1 - \frac{1}{C} \sum_c D(p_c, [c = y]), \qquad D(a, b) = \frac{2ab + s}{a^r + b^r + s},
        \qquad p = \mathrm{softmax}(z)

    An average of scores is not the score of the whole (Simpson's paradox): this loss can fall while the F1 over all samples
    stays where it is. It is here to be compared with ``set_dice``, which is the score of the whole; for one sample they are equal.
    A soft target averages the losses of its classes. A sample that is utterly wrong has hardly any gradient.

    Args:
        smooth: the number s added to both sides of the fraction; with 0 only the probability of the true class counts.
        power: the exponent r in the denominator, at least 1; with 1 both levels tend to predict the largest class only.
        weight, ignore_index, label_smoothing, reduction: as in :class:`torch.nn.CrossEntropyLoss`.
    Shape: logits (N, C, \*); target (N, \*) class indices, or (N, C, \*) probabilities.
    Units: a share, from 0 to 1 for powers up to 2.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Yuan, Zhang, Huang and Liang, "Simpson's Bias in NLP Training", 2021: the sample-level Dice loss. A smoothing of 1 and
        squares are those of the Dice loss for text that it discusses.

    >>> SampleDiceLoss()(torch.tensor([[2.0, 0.0, -2.0]]), torch.tensor([0]))
    tensor(0.0068)
    """

    def __init__(
        self,
        *,
        smooth: NonNegative = 1.0,
        power: Exponent = 2.0,
        weight: Vector | None = None,
        ignore_index: int = -100,
        label_smoothing: Fraction = 0.0,
        reduction: Reduction = "mean",
    ):
        super().__init__(
            smooth=smooth,
            power=power,
            weight=weight,
            ignore_index=ignore_index,
            label_smoothing=label_smoothing,
            reduction=reduction,
        )
