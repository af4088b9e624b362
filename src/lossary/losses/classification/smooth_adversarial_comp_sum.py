"""Smooth adversarial comp-sum loss: a comp-sum loss, and how far an attack moves the margins."""

import torch
from torch import Tensor

from lossary._core.checks import check_class_inputs, check_floating, check_shape
from lossary._core.objective import Objective, average_over_classes, log_softmax, widen
from lossary._core.parameters import Fraction, NonNegative, Positive, Reduction, Vector, formula
from lossary._core.registry import SpecialCase, objective
from lossary.losses.classification._common import without_ignored
from lossary.losses.classification._comp_sum import comp_sum_of, norm


@formula
def smooth_adversarial_comp_sum(
    logits: Tensor,
    target: Tensor,
    adversarial_logits: Tensor,
    *,
    tau: NonNegative = 1.0,
    rho: Positive = 1.0,
    nu: NonNegative = 1.0,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: Fraction = 0.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`SmoothAdversarialCompSumLoss`, with the same parameters."""
    check_class_inputs("smooth_adversarial_comp_sum", logits, target, weight)
    check_floating("smooth_adversarial_comp_sum", "adversarial_logits", adversarial_logits)
    check_shape("smooth_adversarial_comp_sum", "adversarial_logits", adversarial_logits, tuple(logits.shape))
    wide, adversarial_logits = (widen(without_ignored(z, target, ignore_index)) for z in (logits, adversarial_logits))
    if_class = comp_sum_of(log_softmax(wide / rho), tau)

    # the margins of class c move by moved_c - moved_j; with the mean of moved taken off, their squares over j add up to this
    there = (wide != -torch.inf) & (adversarial_logits != -torch.inf)  # a class that is masked does not count as one
    classes = there.sum(1, keepdim=True).clamp_min(1)
    moved = adversarial_logits.masked_fill(~there, 0.0) - wide.masked_fill(~there, 0.0)
    moved = (moved - moved.sum(1, keepdim=True) / classes).masked_fill(~there, 0.0)
    distance = norm(classes * moved.square() + moved.square().sum(1, keepdim=True))

    return average_over_classes(
        if_class + nu * distance,
        target,
        weight=weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
    )


@objective(
    family="classification",
    function=smooth_adversarial_comp_sum,
    tune={"rho": (0.5, 2.0), "nu": (0.1, 10.0)},
    special_cases=[
        SpecialCase({"nu": 0.0}, "cross_entropy"),
        SpecialCase({"nu": 0.0, "tau": 0.0}, "comp_sum", {"tau": 0.0}),
        SpecialCase({"nu": 0.0, "tau": 1.7}, "comp_sum", {"tau": 1.7}),
    ],
)
class SmoothAdversarialCompSumLoss(Objective):
    r"""Smooth adversarial comp-sum loss: a comp-sum loss, plus how far an attack moves the margins.

    .. math::
        \ell = \Phi_\tau\left(\sum_{j \ne y} e^{-(z_y - z_j) / \rho}\right) + \nu \, \lVert D(x') - D(x) \rVert_2,
        \qquad D_j = z_y - z_j, \quad \Phi_\tau(u) = \frac{(1 + u)^{1 - \tau} - 1}{1 - \tau}

    At tau = 1 the first term is cross-entropy. x' is the input within the attack's reach whose margins are farthest from those of
    x; ``lossary.adversarial.pgd`` finds it, is given to the model as a constant input, and gradients flow through both outputs.
    For tau < 1 the first term grows like a power of 1/p; where its slope in log p reaches e^10 it goes on as a straight line, so
    that a logit that is far off has a finite gradient. A norm of 0 has no gradient (the authors' formula has none either).

    Args:
        tau: 0 is the sum of exponentials, 1 cross-entropy, 1 + q generalised cross-entropy, 2 half of the mean absolute error.
        rho: the scale of the margins in the first term.
        nu: the weight of the second term.
        weight, ignore_index, label_smoothing, reduction: as in :class:`torch.nn.CrossEntropyLoss`.
    Shape: logits and adversarial_logits (N, C, \*); target (N, \*) class indices, or (N, C, \*) probabilities.
    Units: nats for tau = 1, plus nu times logits.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Mao, Mohri and Zhong, "Cross-Entropy Loss Functions: Theoretical Analysis and Applications", 2023. The place of rho and
        both scales of 1 are our reading.

    >>> loss = SmoothAdversarialCompSumLoss()
    >>> loss(torch.tensor([[2.0, 0.0]]), torch.tensor([0]), adversarial_logits=torch.tensor([[1.0, 0.5]]))
    tensor(1.6269)
    """

    requires = ("adversarial_logits",)
    rho: float

    def __init__(
        self,
        *,
        tau: NonNegative = 1.0,
        rho: Positive = 1.0,
        nu: NonNegative = 1.0,
        weight: Vector | None = None,
        ignore_index: int = -100,
        label_smoothing: Fraction = 0.0,
        reduction: Reduction = "mean",
    ):
        super().__init__(
            tau=tau,
            rho=rho,
            nu=nu,
            weight=weight,
            ignore_index=ignore_index,
            label_smoothing=label_smoothing,
            reduction=reduction,
        )

    def forward(self, logits: Tensor, target: Tensor, adversarial_logits: Tensor) -> Tensor:
        return self.function(logits, target, adversarial_logits, **self.hyperparameters())

    def link(self, output: Tensor) -> Tensor:
        return (output / self.rho).softmax(1)
