"""Label-distribution-aware margins for multi-label classification: positives of rare labels have to lead by more."""

import torch
from torch import Tensor

from lossary._core.checks import check_element_inputs, check_shape
from lossary._core.objective import SigmoidObjective
from lossary._core.parameters import Fraction, NonNegative, Reduction, Vector, formula
from lossary._core.registry import SpecialCase, objective
from lossary._fast.labels.rule import Pair, average_over_labels
from lossary.losses.multilabel._common import softplus


@formula
def ldam_multilabel(
    logits: Tensor,
    target: Tensor,
    *,
    class_counts: Tensor,
    margin: NonNegative = 3.0,
    weight: Tensor | None = None,
    pos_weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: Fraction = 0.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`LdamMultilabelLoss`, with the same parameters."""
    check_element_inputs("ldam_multilabel", logits, target)
    check_shape("ldam_multilabel", "class_counts", class_counts, tuple(logits.shape[1:2]))
    counts = class_counts.to(logits.device, torch.promote_types(logits.dtype, torch.float32))
    margins = margin * counts.clamp_min(1).pow(-0.25)  # a label that never occurred counts as one that occurred once
    if logits.ndim > 2:
        margins = margins.view(-1, *[1] * (logits.ndim - 2))

    def costs(z: Tensor, margins: Tensor) -> Pair:
        return softplus(margins - z), softplus(z)

    return average_over_labels(
        "ldam_multilabel",
        logits,
        target,
        costs,
        of_label=margins,
        weight=weight,
        pos_weight=pos_weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
    )


@objective(
    family="multilabel",
    function=ldam_multilabel,
    tune={"margin": (0.0, 6.0)},
    special_cases=[SpecialCase({"margin": 0.0}, "binary_cross_entropy")],
)
class LdamMultilabelLoss(SigmoidObjective):
    r"""Label-distribution-aware margins: binary cross-entropy in which positives of rare labels have to lead by more.

    .. math:: \ell(z, 1) = \log\left(1 + e^{m_c - z}\right), \quad \ell(z, 0) = \log\left(1 + e^{z}\right), \qquad
        m_c = \frac{C}{n_c^{1/4}}

    with n the number of training samples that have label c. It finds more of the rare labels and pays with precision; at test time
    there is no margin, and ``link`` is the plain sigmoid. The multi-class loss of the same idea (LDAM) is another paper's.

    Args:
        class_counts: n, how many training samples have each label (L,); of the training part only. 0 counts as 1.
        margin: C, the margin of a label that occurs once; 0 is binary cross-entropy.
        weight, pos_weight, reduction: as in :class:`torch.nn.BCEWithLogitsLoss`.
        ignore_index: elements whose target has this value are left out.
        label_smoothing: the target becomes (1 - e) y + e / 2.
    Shape: logits and target of one shape (N, L, \*); target in [0, 1].
    Units: nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Biswas, Pham and Zhang, "TransICD: Transformer Based Code-wise Attention Model for Explainable ICD Coding", 2021.

    >>> LdamMultilabelLoss(class_counts=torch.tensor([1, 81]))(torch.tensor([[2.0, 2.0]]), torch.tensor([[1.0, 1.0]]))
    tensor(0.8133)
    """

    def __init__(
        self,
        *,
        class_counts: Vector,
        margin: NonNegative = 3.0,
        weight: Vector | None = None,
        pos_weight: Vector | None = None,
        ignore_index: int = -100,
        label_smoothing: Fraction = 0.0,
        reduction: Reduction = "mean",
    ):
        super().__init__(
            class_counts=class_counts,
            margin=margin,
            weight=weight,
            pos_weight=pos_weight,
            ignore_index=ignore_index,
            label_smoothing=label_smoothing,
            reduction=reduction,
        )
