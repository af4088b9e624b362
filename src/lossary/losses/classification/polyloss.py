"""PolyLoss: cross-entropy with the first coefficients of its expansion changed."""

import torch
from torch import Tensor

from lossary._core.checks import check_class_inputs
from lossary._core.objective import SoftmaxObjective
from lossary._core.parameters import Fraction, Reals, Reduction, Vector, formula
from lossary._core.registry import SpecialCase, objective
from lossary._fast.classes.rule import Rows, average_over_rows


@formula
def polyloss(
    logits: Tensor,
    target: Tensor,
    *,
    epsilon: Reals = 1.0,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: Fraction = 0.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`PolyLoss`, with the same parameters."""
    check_class_inputs("polyloss", logits, target, weight)
    coefficients = epsilon if isinstance(epsilon, (tuple, list)) else (epsilon,)

    def if_class(row: Rows) -> Tensor:
        complement = -torch.expm1(row.log_p)
        value = -row.log_p
        for degree, coefficient in enumerate(coefficients, start=1):
            value = value + coefficient * complement.pow(degree)
        return value

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
    function=polyloss,
    tune={"epsilon": (-1.0, 4.0)},
    special_cases=[
        SpecialCase({"epsilon": 0.0}, "cross_entropy"),
        SpecialCase({"epsilon": (0.0, 0.0)}, "cross_entropy"),
        SpecialCase({"epsilon": (0.5,)}, "polyloss", {"epsilon": 0.5}),
    ],
)
class PolyLoss(SoftmaxObjective):
    r"""Cross-entropy with the first coefficients of its expansion in powers of the missing probability changed.

    .. math:: \ell(z, y) = -\log p_y + \sum_{j=1}^{J} \epsilon_j (1 - p_y)^j, \qquad p = \mathrm{softmax}(z)

    One number is Poly-1. Below -1 the first coefficient makes the loss rise as a nearly right sample gets better.

    Args:
        epsilon: the changes of the first coefficients, one number or a sequence; 0 is cross-entropy.
        weight, ignore_index, label_smoothing, reduction: as in :class:`torch.nn.CrossEntropyLoss`.
    Shape: logits (N, C, \*); target (N, \*) class indices, or (N, C, \*) probabilities.
    Units: nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Leng et al., "PolyLoss: A Polynomial Expansion Perspective of Classification Loss Functions", 2022: as in its
        appendix, whose smoothed Poly-1 this equals.

    >>> PolyLoss()(torch.tensor([[2.0, 0.0, -2.0]]), torch.tensor([0]))
    tensor(0.2761)
    """

    def __init__(
        self,
        *,
        epsilon: Reals = 1.0,
        weight: Vector | None = None,
        ignore_index: int = -100,
        label_smoothing: Fraction = 0.0,
        reduction: Reduction = "mean",
    ):
        super().__init__(
            epsilon=epsilon, weight=weight, ignore_index=ignore_index, label_smoothing=label_smoothing, reduction=reduction
        )
