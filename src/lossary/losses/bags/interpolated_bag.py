"""Interpolated bag loss: between the bag level and the instance level."""

from torch import Tensor

from lossary._core.parameters import Fraction, SetReduction, formula
from lossary._core.registry import SpecialCase, objective
from lossary.losses.bags._common import BagObjective, Base, bag_losses, check_bags, instance_losses, over_bags


@formula
def interpolated_bag(
    prediction: Tensor,
    target: Tensor,
    bag: Tensor,
    *,
    rho: Fraction = 0.5,
    base: Base = "squared",
    reduction: SetReduction = "mean",
) -> Tensor:
    """The pure function behind :class:`InterpolatedBagLoss`, with the same parameters."""
    check_bags("interpolated_bag", prediction, target, bag)
    of_bags, present = bag_losses(prediction, target, bag, base)
    of_samples, _ = instance_losses(prediction, target, bag, base)
    return over_bags((1 - rho) * of_bags + rho * of_samples, present, reduction)


@objective(
    family="bags",
    function=interpolated_bag,
    decomposable=False,
    spatial=False,
    link="value",
    distributed="inexact",  # unless every bag is whole on one process
    tune={"rho": (0.0, 1.0)},
    special_cases=[SpecialCase({"rho": 0.0}, "bag_level"), SpecialCase({"rho": 1.0}, "instance_level")],
)
class InterpolatedBagLoss(BagObjective):
    r"""Interpolated bag loss: a share of the instance level, and the rest of the bag level.

    .. math:: \mathcal{L} = (1 - \rho) \, \mathcal{L}_\mathrm{bag} + \rho \, \mathcal{L}_\mathrm{instance}

    For squares: the bag-level loss plus rho times the variance of the predictions within each bag.

    Args:
        rho: the share of the instance level, to be tuned; 0 is ``bag_level`` and 1 ``instance_level``.
        base: ``"squared"``, the squared error of a prediction, or ``"bce"``, cross-entropy of a logit, which predicts its sigmoid.
        reduction: ``"mean"`` over the bags of the batch, or their ``"sum"``.
    Shape: prediction (N,); target (num_bags,), means of responses, or shares in [0, 1] for ``base="bce"``; bag (N,) int64, where
        in target each sample's bag is. Bags without a sample in the batch are left out; each other one counts once.
    Units: squared units of the target, or nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Javanmard, Chen, Mirrokni, Badanidiyuru and Fu, "Learning from Aggregate responses: Instance Level versus Bag Level Loss
        Functions", 2024; the paper tunes rho,
        and a half is our default.

    >>> InterpolatedBagLoss()(torch.tensor([1.0, 3.0, 2.0]), torch.tensor([1.0, 2.0]), torch.tensor([0, 0, 1]))
    tensor(0.7500)
    """

    def __init__(self, *, rho: Fraction = 0.5, base: Base = "squared", reduction: SetReduction = "mean"):
        super().__init__(rho=rho, base=base, reduction=reduction)
