"""LDR-KL: the worst case over distributions of the label near the uniform one."""

from torch import Tensor

from lossary._core.checks import check_class_inputs
from lossary._core.objective import SoftmaxObjective, widen
from lossary._core.parameters import Fraction, NonNegative, Positive, Reduction, Vector, formula
from lossary._core.registry import SpecialCase, objective
from lossary._fast.classes.rule import Rows, average_over_rows
from lossary.losses.classification._robust import Normalization, normalized


@formula
def ldr_kl(
    logits: Tensor,
    target: Tensor,
    *,
    temperature: Positive = 1.0,
    margin: NonNegative = 0.1,
    normalize: Normalization | None = None,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: Fraction = 0.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`LdrKlLoss`, with the same parameters."""
    check_class_inputs("ldr_kl", logits, target, weight)

    def if_class(row: Rows) -> Tensor:
        return -temperature * (row.log_p + row.classes.log())

    return average_over_rows(
        logits if normalize is None else normalized(widen(logits), normalize),
        target,
        if_class,
        needs=("log_p", "classes"),
        temperature=temperature,
        margin=margin,
        weight=weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
    )


@objective(
    family="classification",
    function=ldr_kl,
    tune={"temperature": (0.1, 10.0), "margin": (0.0, 1.0)},
    special_cases=[SpecialCase({"normalize": None, "temperature": 0.7}, "ldr_kl", {"temperature": 0.7})],
)
class LdrKlLoss(SoftmaxObjective):
    r"""LDR-KL: a soft maximum, at a temperature, of how far each class is above the true one.

    .. math::
        \ell(z, y) = \lambda \log \frac{1}{C} \sum_k e^{q_k / \lambda}
        = \max_{p} \Big[ \sum_k p_k q_k - \lambda\, \mathrm{KL}(p \,\|\, \mathrm{uniform}) \Big],
        \qquad q_k = z_k - z_y + c\,[k \ne y]

    The temperature goes from the largest q (0, Crammer and Singer's multi-class hinge) to their mean (infinite), which is linear in
    the logits and has no lower bound: use a large temperature with ``normalize="l1"`` only. At 1 without a margin it is
    cross-entropy minus log C.

    Args:
        temperature: lambda; small ones look at the strongest rival alone.
        margin: c, by how much the true class should lead.
        normalize: None; "l1" divides the logits by their mean size, or 1e-3 if that is smaller still; "softplus" makes them
            positive with a mean of one.
        weight, ignore_index, label_smoothing, reduction: as in :class:`torch.nn.CrossEntropyLoss`.
    Shape: logits (N, C, \*); target (N, \*) class indices, or (N, C, \*) probabilities.
    Units: nats, less log C.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Zhu, Ying and Yang, "Label Distributionally Robust Losses for Multi-class Classification: Consistency, Robustness and
        Adaptivity", 2021. As in the paper the margin is inside of the soft maximum; the authors' program also normalises the
        logits, which is a parameter here.

    >>> LdrKlLoss()(torch.tensor([[2.0, 0.0, -2.0]]), torch.tensor([0]))
    tensor(-0.9418)
    """

    temperature: float
    normalize: str | None

    def __init__(
        self,
        *,
        temperature: Positive = 1.0,
        margin: NonNegative = 0.1,
        normalize: Normalization | None = None,
        weight: Vector | None = None,
        ignore_index: int = -100,
        label_smoothing: Fraction = 0.0,
        reduction: Reduction = "mean",
    ):
        super().__init__(
            temperature=temperature,
            margin=margin,
            normalize=normalize,
            weight=weight,
            ignore_index=ignore_index,
            label_smoothing=label_smoothing,
            reduction=reduction,
        )

    def link(self, output: Tensor) -> Tensor:
        return (normalized(output, self.normalize) / self.temperature).softmax(1)
