"""BYOL's loss: predict the target network's projection of the other view."""

from torch import Tensor

from lossary._core.checks import check_pair
from lossary._core.objective import Objective, reduce, widen
from lossary._core.parameters import Reduction, formula
from lossary._core.registry import objective
from lossary._fast.pairs.rule import unit
from lossary.losses.contrastive._common import direction, squares_on_the_sphere


@formula
def byol(prediction: Tensor, target: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """The pure function behind :class:`ByolLoss`, with the same parameters."""
    check_pair("byol", prediction, target, "prediction", "target")
    p, z = unit(widen(prediction)), unit(widen(target.detach()))
    per_sample = squares_on_the_sphere(p, z)
    return reduce(per_sample, per_sample.numel(), reduction)


@objective(family="contrastive", function=byol, soft_targets=False, spatial=False, link="scores")
class ByolLoss(Objective):
    r"""BYOL's loss: the squared distance on the sphere between a prediction and the target network's projection.

    .. math:: \ell_i = \left\| \frac{p_i}{\|p_i\|} - \frac{z_i}{\|z_i\|} \right\|^2 = 2 - 2 \cos(p_i, z_i)

    It has no negative pairs. The prediction comes from the trained network and a predictor on top of it, the target from a slow
    copy of the network (:class:`lossary.nn.EmaTarget`) for the other view; without predictor and copy all outputs become the same.
    One call is one direction: the loss of a step is ``loss(p_1, z_2) + loss(p_2, z_1)``. The target is detached here.

    Args:
        reduction: as in :class:`torch.nn.CrossEntropyLoss`; ``"none"`` gives (N,).
    Shape: prediction and target (N, D), of any length.
    Units: squared distance, from 0 to 4.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Grill et al., "Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning", 2020, as the base of Garg and
        Jain, "Self-Labeling Refinement for Robust Representation Learning with Bootstrap Your Own Latent", 2022.

    >>> ByolLoss()(torch.tensor([[1.0, 0.0]]), torch.tensor([[3.0, 3.0]]))
    tensor(0.5858)
    """

    consumes = "embedding"

    def __init__(self, *, reduction: Reduction = "mean"):
        super().__init__(reduction=reduction)

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        return self.function(prediction, target, **self.hyperparameters())

    def link(self, output: Tensor) -> Tensor:
        return direction(output)
