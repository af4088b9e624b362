"""Smooth adversarial comp-sum loss: a comp-sum loss, and how far an attack moves the margins."""

import torch
from torch import Tensor

from lossary._core.checks import check_class_inputs, check_floating, check_shape
from lossary._core.objective import Objective, average_over_classes, average_over_kept, class_indices, log_softmax, widen
from lossary._core.parameters import Fraction, NonNegative, Positive, Reduction, Vector, formula
from lossary._core.registry import SpecialCase, objective
from lossary._fast import dispatch
from lossary._fast.classes.rule import Rows, average_over_rows
from lossary._fast.one_pass import in_one_pass
from lossary.losses.classification._common import IGNORED, classes_exist, without_ignored
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
    shared = {"weight": weight, "ignore_index": ignore_index, "reduction": reduction}
    if target.is_floating_point() or label_smoothing or logits.ndim > 2:
        if_class = comp_sum_of(log_softmax(wide / rho), tau) + nu * _distances(wide, adversarial_logits)
        return average_over_classes(if_class, target, label_smoothing=label_smoothing, **shared)  # type: ignore[arg-type]

    def cost(row: Rows) -> Tensor:
        return comp_sum_of(row.log_p, tau)

    first = average_over_rows(wide, target, cost, temperature=rho, label_smoothing=0.0, **shared)  # type: ignore[arg-type]
    index, ignored = class_indices(target, ignore_index)
    distance = _distances_of_labels(wide, adversarial_logits, index)
    weight = None if weight is None else weight.to(distance.dtype)
    distance = distance if weight is None else distance * weight[index]
    return first + nu * average_over_kept(distance, index, ignored, weight, reduction)


def _distances(logits: Tensor, adversarial_logits: Tensor) -> Tensor:
    """How far the margins of each class move (N, C, *)."""
    # the margins of class c move by moved_c - moved_j; with the mean of moved taken off, their squares over j add up to this
    there = (logits != -torch.inf) & (adversarial_logits != -torch.inf)  # a class that is masked does not count as one
    classes = there.sum(1, keepdim=True).clamp_min(1)
    moved = adversarial_logits.masked_fill(~there, 0.0) - logits.masked_fill(~there, 0.0)
    moved = (moved - moved.sum(1, keepdim=True) / classes).masked_fill(~there, 0.0)
    return norm(classes * moved.square() + moved.square().sum(1, keepdim=True))


def _distances_of_labels(logits: Tensor, adversarial_logits: Tensor, index: Tensor) -> Tensor:
    """The same of the class of each row alone (N,)."""
    moved = adversarial_logits - logits
    beside = logits.detach(), adversarial_logits.detach(), index
    if dispatch.take_compiled_loops(moved, *beside) and classes_exist(index, logits.shape[1], IGNORED):
        found: Tensor = in_one_pass(_in_a_loop, _plain, moved, *beside)
        return found
    return _plain(moved, *beside)


def _plain(moved: Tensor, logits: Tensor, adversarial_logits: Tensor, index: Tensor) -> Tensor:
    there = (logits != -torch.inf) & (adversarial_logits != -torch.inf)
    classes, moved = there.sum(1, keepdim=True).clamp_min(1), moved.masked_fill(~there, 0.0)
    moved = (moved - moved.sum(1, keepdim=True) / classes).masked_fill(~there, 0.0)
    own = moved.gather(1, index.unsqueeze(1)).squeeze(1)
    return norm(classes.squeeze(1) * own.square() + moved.square().sum(1))


def _in_a_loop(
    wanted: bool, moved: Tensor, logits: Tensor, adversarial_logits: Tensor, index: Tensor
) -> tuple[Tensor, Tensor | None]:
    from lossary._fast.mathematics import on_threads  # which imports Numba
    from lossary.losses.classification import _loops

    value, gradient = moved.new_empty(moved.shape[:1]), moved.new_empty(moved.shape) if wanted else None
    given = [x.detach().contiguous().numpy() for x in (moved, logits, adversarial_logits, index, value)]
    slope = None if gradient is None else gradient.numpy()

    def go(rows: slice) -> None:
        _loops.moved_margins(*(x[rows] for x in given), None if slope is None else slope[rows])

    on_threads(go, *moved.shape)
    return value, gradient


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
    that a logit that is far off has a finite gradient. A norm of 0 has no gradient (the authors' formula has none either). Both
    outputs have a gradient, so that it takes the room of three to four inputs.

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
