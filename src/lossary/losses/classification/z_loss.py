"""Z-loss: a loss of the standardised logit, whatever the scale of the others."""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from lossary._core.checks import check_class_inputs
from lossary._core.objective import SoftmaxObjective, widen
from lossary._core.parameters import Fraction, Positive, Real, Reduction, Vector, formula
from lossary._core.registry import objective
from lossary._fast.classes.rule import Rows, average_over_rows


def _standardised(logits: Tensor, mean: Tensor, variance: Tensor, eps: float) -> Tensor:
    varies = variance > eps * eps
    deviation = torch.where(varies, variance + eps * eps, 1.0).sqrt()
    return (logits - mean) / deviation


@formula
def z_loss(
    logits: Tensor,
    target: Tensor,
    *,
    a: Positive = 1.0,
    b: Real = 0.0,
    eps: Positive = 1e-12,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: Fraction = 0.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`ZLoss`, with the same parameters."""
    check_class_inputs("z_loss", logits, target, weight, min_classes=2)

    def if_class(row: Rows) -> Tensor:
        u = _standardised(row.logits, row.mean, row.variance, eps)
        return softplus(a * (b - u), threshold=40) / a  # beyond, softplus is its argument to the last bit

    return average_over_rows(
        logits,
        target,
        if_class,
        needs=("logits", "mean", "variance"),
        weight=weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
    )


@objective(
    family="classification",
    function=z_loss,
    link="ranking",
    saturates=True,  # by its invariance: the larger the logits, the smaller the slope
    tune={"a": (0.5, 4.0), "b": (0.0, 4.0)},
)
class ZLoss(SoftmaxObjective):
    r"""Z-loss: softplus of the true class's logit after its row is standardised to mean 0 and variance 1.

    .. math::
        \ell(z, y) = \frac{1}{a} \log\left(1 + e^{a (b - u_y)}\right), \qquad u = \frac{z - \mu}{\sigma}

    with the mean and the population deviation of the row. Adding to all logits or multiplying them by a positive number changes
    nothing, so the gradient is orthogonal to both and the scale drifts: train with weight decay. The paper gives no
    probabilities; ``link`` is softmax(a u), a ranking. Not the regulariser log² Z of the same name.

    A program that computes the variance as E[z²] - E[z]² gets negative ones, and NaN, from logits that are nearly equal; here it
    takes two passes. A row of equal logits has no deviation to divide by: it is taken as 1, so that a layer that starts at
    zero can start to learn.

    It is for many classes. Of two logits that differ one is always one deviation above the mean and the other one below, so
    that with two classes there is nothing to learn from.

    Args:
        a: the sharpness of the softplus.
        b: how many deviations above the mean the true class should be.
        eps: deviations below this count as none; a gradient can be as large as one over the deviation.
        weight, ignore_index, label_smoothing, reduction: as in :class:`torch.nn.CrossEntropyLoss`.
    Shape: logits (N, C, \*) with C > 1; target (N, \*) class indices, or (N, C, \*) probabilities.
    Units: deviations of a row of logits.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: de Brébisson and Vincent, "The Z-loss: a shift and scale invariant classification loss belonging to the Spherical
        Family", 2016; a and b are those of the authors' example, as the paper tunes them.

    >>> ZLoss()(torch.tensor([[2.0, 0.0, -2.0]]), torch.tensor([0]))
    tensor(0.2576)
    """

    a: float
    eps: float

    def __init__(
        self,
        *,
        a: Positive = 1.0,
        b: Real = 0.0,
        eps: Positive = 1e-12,
        weight: Vector | None = None,
        ignore_index: int = -100,
        label_smoothing: Fraction = 0.0,
        reduction: Reduction = "mean",
    ):
        super().__init__(
            a=a, b=b, eps=eps, weight=weight, ignore_index=ignore_index, label_smoothing=label_smoothing, reduction=reduction
        )

    def link(self, output: Tensor) -> Tensor:
        z = widen(output)
        mean = z.mean(1, keepdim=True)
        return (self.a * _standardised(z, mean, (z - mean).square().mean(1, keepdim=True), self.eps)).softmax(1).to(output.dtype)
