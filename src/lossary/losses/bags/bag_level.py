"""Bag level: the mean prediction of a bag against the mean response of the bag."""

from torch import Tensor

from lossary._core.parameters import SetReduction, formula
from lossary._core.registry import objective
from lossary.losses.bags._common import BagObjective, Base, bag_losses, check_bags, over_bags


@formula
def bag_level(
    prediction: Tensor,
    target: Tensor,
    bag: Tensor,
    *,
    base: Base = "squared",
    reduction: SetReduction = "mean",
) -> Tensor:
    """The pure function behind :class:`BagLevelLoss`, with the same parameters."""
    check_bags("bag_level", prediction, target, bag)
    return over_bags(*bag_losses(prediction, target, bag, base), reduction)


@objective(
    family="bags",
    function=bag_level,
    decomposable=False,
    spatial=False,
    link="value",
    distributed="inexact",  # unless every bag is whole on one process
)
class BagLevelLoss(BagObjective):
    r"""Bag-level loss: the mean prediction of each bag has to meet the mean response of the bag.

    .. math::
        \mathcal{L} = \frac{1}{m} \sum_{a=1}^{m} \ell\left(\bar y_a, \frac{1}{|B_a|} \sum_{i \in B_a} f(x_i)\right)

    A batch has to hold whole bags, because half a bag has another mean. With fewer bags than parameters the model is not
    determined: mix in some of ``instance_level``, as ``interpolated_bag`` does. The mean of probabilities is taken in log space.

    Args:
        base: ``"squared"``, the squared error of a prediction, or ``"bce"``, cross-entropy of a logit, which predicts its sigmoid.
        reduction: ``"mean"`` over the bags of the batch, or their ``"sum"``.
    Shape: prediction (N,); target (num_bags,), means of responses, or shares in [0, 1] for ``base="bce"``; bag (N,) int64, where
        in target each sample's bag is. Bags without a sample in the batch are left out; each other one counts once.
    Units: squared units of the target, or nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Javanmard, Chen, Mirrokni, Badanidiyuru and Fu, "Learning from Aggregate responses: Instance Level versus Bag Level Loss
        Functions", 2024.

    >>> BagLevelLoss()(torch.tensor([1.0, 3.0, 2.0]), torch.tensor([1.0, 2.0]), torch.tensor([0, 0, 1]))
    tensor(0.5000)
    """

    def __init__(self, *, base: Base = "squared", reduction: SetReduction = "mean"):
        super().__init__(base=base, reduction=reduction)
