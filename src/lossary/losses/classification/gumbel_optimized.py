"""Gumbel Optimized Loss: one against the rest with a Gumbel link, for long tails."""

from typing import Annotated

import torch
from torch import Tensor

from lossary._core.checks import check_floating, check_shape, check_tensor, shape_text
from lossary._core.objective import Objective, widen
from lossary._core.parameters import Interval, NonNegative, Range, Reduction, formula
from lossary._core.registry import objective
from lossary._fast.labels.rule import Curves, Pair, Rule, cost_of_rows, labels_of, sum_over_rows
from lossary.errors import InvalidTypeError, InvalidValueError

NOTHING_IGNORED = -100
Clamp = Annotated[tuple[float, float], Range(Interval(low=-80.0, high=80.0))]  # beyond, exp(-z) does not fit into float32


def _curves(low: float, high: float) -> Curves:
    """-log p and -log(1 - p) of p = exp(-exp(-z)), without forming exp(exp(-z)), which overflows."""

    def costs(z: Tensor) -> Pair:
        t = z.clamp(low, high).neg().exp()
        return t, -(-torch.expm1(-t)).log()

    return costs


def _counted(labels: Tensor, class_frequency: Tensor, threshold: float, generator: torch.Generator | None) -> Tensor:
    """Which elements count (N, C): a rare class is spared most of its negatives."""
    rare = class_frequency.to(labels.device) < threshold
    present = labels > 0
    foreground = present.any(1)
    rare_share = (present & rare).any(1).sum() / foreground.sum().clamp_min(1)
    drawn = torch.rand(labels.shape, generator=generator, device=labels.device)
    dropped = torch.where(foreground.unsqueeze(1), ~present, drawn > rare_share) & rare
    return (~dropped).to(labels.dtype)


@formula
def gumbel_optimized(
    logits: Tensor,
    target: Tensor,
    *,
    clamp: Clamp = (-4.0, 10.0),
    class_frequency: Tensor | None = None,
    frequency_threshold: NonNegative = 0.0011,
    generator: torch.Generator | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`GumbelOptimizedLoss`, with the same parameters."""
    low, high = clamp
    _check(logits, target, class_frequency)
    counted = None
    if class_frequency is not None:
        labels = labels_of(target, widen(logits))
        counted = _counted(labels, class_frequency, frequency_threshold, generator)
    rule = Rule(_curves(low, high), NOTHING_IGNORED, 0.0, per_element=False)
    if reduction == "none":
        return cost_of_rows(logits, target, counted, None, rule)[0]
    return sum_over_rows(logits, target, counted, None, rule, 1.0 / max(1, logits.shape[0]) if reduction == "mean" else 1.0)


def _check(logits: Tensor, target: Tensor, class_frequency: Tensor | None) -> None:
    owner = "gumbel_optimized"
    check_floating(owner, "logits", logits)
    check_tensor(owner, "target", target)
    if logits.ndim != 2:
        raise InvalidValueError(f"{owner}: logits must have shape (N, C), got {shape_text(tuple(logits.shape))}")
    check_shape(owner, "target", target, tuple(logits.shape[:1]), tuple(logits.shape))
    if target.ndim == 1 and (target.is_floating_point() or target.is_complex() or target.dtype == torch.bool):
        raise InvalidTypeError(
            f"{owner}: target of shape {shape_text(tuple(target.shape))} must be class indices (int64), got {target.dtype}"
        )
    if target.ndim == 2 and not target.is_floating_point():
        raise InvalidTypeError(
            f"{owner}: target of shape {shape_text(tuple(target.shape))} must be labels (floating point), got {target.dtype}"
        )
    if class_frequency is not None:
        check_floating(owner, "class_frequency", class_frequency)
        check_shape(owner, "class_frequency", class_frequency, tuple(logits.shape[1:]))


@objective(
    family="classification",
    function=gumbel_optimized,
    link="scores",
    spatial=False,
)
class GumbelOptimizedLoss(Objective):
    r"""Gumbel Optimized Loss: one class against the rest, with a Gumbel link in the place of the logistic one.

    .. math::
        \ell(z, y) = \sum_c \big[ -y_c \log p_c - (1 - y_c) \log(1 - p_c) \big], \qquad p_c = e^{-e^{-z_c}}

    A missed positive has a gradient of size exp(-z), where the logistic one is at most 1, so rare classes are learnt faster. Start
    from a negative bias (about -2), as every class has p = 0.37 at z = 0, and clip gradients.

    With ``class_frequency`` rare classes are spared their negatives: all of them from samples of other classes, and from background
    samples (of no class) a random part, one minus the batch's share of foreground samples that are of a rare class. The random
    numbers come from torch's global generator or from the one given.

    Args:
        clamp: logits are clamped to this range first, as in the authors' program; outside there is no gradient.
        class_frequency: share of the training images that have each class (C,), or None to count everything.
        frequency_threshold: classes below it are rare; 0.0011 is for LVIS v1, 0.00177 for v0.5.
        generator: the source of the random numbers; it has to be on the device of the logits.
        reduction: as in :class:`torch.nn.CrossEntropyLoss`; the mean is over samples, of sums over classes.
    Shape: logits (N, C); target (N,) class indices, of which C means background, or (N, C) labels in [0, 1].
    Units: nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Alexandridis, Deng, Nguyen and Luo, "Long-tailed Instance Segmentation using Gumbel Optimized Loss", 2022. The paper's
        results also use repeat-factor sampling and a normalised mask head; the authors' last settings use another link for
        frequent classes.

    >>> GumbelOptimizedLoss()(torch.tensor([[2.0, 0.0, -2.0]]), torch.tensor([0]))
    tensor(0.5946)
    """

    def __init__(
        self,
        *,
        clamp: Clamp = (-4.0, 10.0),
        class_frequency: Tensor | None = None,
        frequency_threshold: NonNegative = 0.0011,
        generator: torch.Generator | None = None,
        reduction: Reduction = "mean",
    ):
        super().__init__(
            clamp=clamp,
            class_frequency=class_frequency,
            frequency_threshold=frequency_threshold,
            generator=generator,
            reduction=reduction,
        )

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return self.function(logits, target, **self.hyperparameters())

    def link(self, output: Tensor) -> Tensor:
        return (-(-widen(output)).exp()).exp().to(output.dtype)
