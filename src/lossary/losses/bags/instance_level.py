"""Instance level: every prediction of a bag against the mean response of the bag."""

from torch import Tensor

from lossary._core.parameters import SetReduction, formula
from lossary._core.registry import objective
from lossary.losses.bags._common import BagObjective, Base, check_bags, instance_losses, over_bags


@formula
def instance_level(
    prediction: Tensor,
    target: Tensor,
    bag: Tensor,
    *,
    base: Base = "squared",
    reduction: SetReduction = "mean",
) -> Tensor:
    """The pure function behind :class:`InstanceLevelLoss`, with the same parameters."""
    check_bags("instance_level", prediction, target, bag)
    return over_bags(*instance_losses(prediction, target, bag, base), reduction)


@objective(
    family="bags",
    function=instance_level,
    decomposable=False,
    spatial=False,
    link="value",
    distributed="inexact",  # unless every bag is whole on one process
)
class InstanceLevelLoss(BagObjective):
    r"""Instance-level loss: every single prediction has to meet the mean response of its bag.

    .. math::
        \mathcal{L} = \frac{1}{m} \sum_{a=1}^{m} \frac{1}{|B_a|} \sum_{i \in B_a} \ell(\bar y_a, f(x_i))

    For squares this is the bag-level loss plus the variance of the predictions within each bag: a regulariser that pulls them
    together, which helps where the signal is weak and hurts where it is strong.

    Args:
        base: ``"squared"``, the squared error of a prediction, or ``"bce"``, cross-entropy of a logit, which predicts its sigmoid.
        reduction: ``"mean"`` over the bags of the batch, or their ``"sum"``.
    Shape: prediction (N,); target (num_bags,), means of responses, or shares in [0, 1] for ``base="bce"``; bag (N,) int64, where
        in target each sample's bag is. Bags without a sample in the batch are left out; each other one counts once.
    Units: squared units of the target, or nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Javanmard, Chen, Mirrokni, Badanidiyuru and Fu, "Learning from Aggregate responses: Instance Level versus Bag Level Loss
        Functions", 2024.

    >>> InstanceLevelLoss()(torch.tensor([1.0, 3.0, 2.0]), torch.tensor([1.0, 2.0]), torch.tensor([0, 0, 1]))
    tensor(1.)
    """

    def __init__(self, *, base: Base = "squared", reduction: SetReduction = "mean"):
        super().__init__(base=base, reduction=reduction)
