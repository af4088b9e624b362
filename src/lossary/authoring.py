"""Everything that the author of a loss, or of another unit, imports, inside of Lossary's repository or in a package of their own.

.. code-block:: python

    from lossary.authoring import NonNegative, Reduction, Rows, SoftmaxObjective, Tensor, Vector
    from lossary.authoring import average_over_rows, check_class_inputs, formula, objective

    @formula
    def shouted(
        logits: Tensor,
        target: Tensor,
        *,
        volume: NonNegative = 2.0,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        reduction: Reduction = "mean",
    ) -> Tensor:
        check_class_inputs("shouted", logits, target, weight)

        def if_class(row: Rows) -> Tensor:  # l(c), of numbers of a row of logits
            return -volume * row.log_p

        return average_over_rows(
            logits, target, if_class, weight=weight, ignore_index=ignore_index, label_smoothing=0.0, reduction=reduction
        )

    @objective(family="classification", function=shouted)
    class ShoutedLoss(SoftmaxObjective):
        ...  # a docstring, and a constructor with the same keywords

What is here, by its use:

- **Registering**: :func:`formula` and :func:`objective` for a loss, :func:`unit` and :func:`checked` for everything else,
  :class:`SpecialCase` for an identity with another loss. Name the module in the entry point ``lossary.objectives``.
- **Classes to derive from**: :class:`SoftmaxObjective` (one class of several), :class:`SigmoidObjective` (labels that are yes or
  no), :class:`IdentityObjective` (regression), and :class:`Objective` for everything else.
- **Parameters**, as annotations that are checked and shown: ``NonNegative``, ``Positive``, ``Fraction``, ``Real``, ``Reals``,
  ``Count``, ``PositiveCount``, ``Reduction``, ``SetReduction``, ``Vector``; others are made of :class:`Interval`, :class:`OneOf`,
  :class:`OneOrMore` and :class:`Range` in :data:`typing.Annotated`.
- **Checks of tensors** that end in one sentence: :func:`check_class_inputs`, :func:`check_element_inputs` and the others.
- **The rule for targets, weights and means, at the speed of memory**: :func:`average_over_rows` for l(c) of a row of logits (N, C),
  :func:`average_over_labels` for labels that are yes or no, :func:`over_rows` and :func:`sum_over_rows` for similarities of pairs,
  whose modules say what a formula may be made of. :func:`average_over_classes` and :func:`average_over_elements` are the same rule
  on plain tensors.
- **Numbers**: :func:`widen` (half precision becomes float32), :func:`reduce`, :func:`log_softmax`, :func:`log_sum_exp`,
  :func:`is_ignored` and :func:`class_indices` (targets of any integer dtype), :func:`direction`.
- **Several processes**: ``Group``, :func:`all_items` and :func:`total`.

``lossary check my_package.my_loss:MyLoss`` runs the conformance suite.
"""

from torch import Tensor

from lossary._core.checks import (
    check_broadcast,
    check_class_inputs,
    check_element_inputs,
    check_floating,
    check_integers,
    check_shape,
    check_tensor,
    shape_text,
)
from lossary._core.objective import (
    IdentityObjective,
    Objective,
    SigmoidObjective,
    SoftmaxObjective,
    average_over_classes,
    average_over_elements,
    average_over_kept,
    class_indices,
    is_ignored,
    log_softmax,
    reduce,
    reset_directions,
    widen,
    without_autocast,
)
from lossary._core.parameters import (
    Count,
    Fraction,
    Interval,
    NonNegative,
    OneOf,
    OneOrMore,
    Positive,
    PositiveCount,
    Range,
    Real,
    Reals,
    Reduction,
    SetReduction,
    Vector,
    checked,
    formula,
)
from lossary._core.registry import SpecialCase, objective, unit
from lossary._fast.classes.rule import Rows, average_over_rows
from lossary._fast.labels.rule import Pair, average_over_labels
from lossary._fast.pairs.rule import Pairs, against_all, log_sum_exp, over_rows, sum_over_rows
from lossary._fast.pairs.rule import unit as direction
from lossary.distributed import Group, all_items, total
from lossary.errors import InvalidTypeError, InvalidValueError

__all__ = [
    "Count",
    "Fraction",
    "Group",
    "IdentityObjective",
    "Interval",
    "InvalidTypeError",
    "InvalidValueError",
    "NonNegative",
    "Objective",
    "OneOf",
    "OneOrMore",
    "Pair",
    "Pairs",
    "Positive",
    "PositiveCount",
    "Range",
    "Real",
    "Reals",
    "Reduction",
    "Rows",
    "SetReduction",
    "SigmoidObjective",
    "SoftmaxObjective",
    "SpecialCase",
    "Tensor",
    "Vector",
    "against_all",
    "all_items",
    "average_over_classes",
    "average_over_elements",
    "average_over_kept",
    "average_over_labels",
    "average_over_rows",
    "check_broadcast",
    "check_class_inputs",
    "check_element_inputs",
    "check_floating",
    "check_integers",
    "check_shape",
    "check_tensor",
    "checked",
    "class_indices",
    "direction",
    "formula",
    "is_ignored",
    "log_softmax",
    "log_sum_exp",
    "objective",
    "over_rows",
    "reduce",
    "reset_directions",
    "shape_text",
    "sum_over_rows",
    "total",
    "unit",
    "widen",
    "without_autocast",
]
