"""InfoNCE with the hardest negatives only."""

from torch import Tensor
from torch.nn.functional import softplus

from lossary._core.parameters import Positive, Reduction, formula
from lossary._core.registry import SpecialCase, objective
from lossary._fast.pairs.rule import log_sum_exp
from lossary._fast.pairs.tiles import paired_inputs
from lossary.distributed import Group, Ring
from lossary.losses.contrastive._common import TwoViews
from lossary.losses.contrastive._hardest import HardFraction, hardest_negatives


@formula
def hard_contrastive(
    a: Tensor,
    b: Tensor,
    *,
    temperature: Positive = 0.07,
    hard_fraction: HardFraction = 0.0819,
    group: Group = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`HardContrastiveLoss`, with the same parameters."""
    a, b = paired_inputs("hard_contrastive", a, b)

    def of_row(positive: Tensor, negatives: Tensor) -> Tensor:
        return softplus(log_sum_exp(negatives / temperature) - positive / temperature, threshold=40)

    return hardest_negatives(a, b, of_row, hard_fraction, Ring("hard_contrastive", b, group), reduction)


@objective(
    family="contrastive",
    function=hard_contrastive,
    soft_targets=False,
    decomposable=False,
    spatial=False,
    link="scores",
    distributed="inexact",
    tune={"temperature": (0.02, 1.0)},
    special_cases=[SpecialCase({"hard_fraction": 1.0}, "info_nce")],
)
class HardContrastiveLoss(TwoViews):
    r"""InfoNCE with the hardest negatives only.

    .. math::
        \ell_i = -\log \frac{e^{s_{ii} / \tau}}{e^{s_{ii} / \tau} + \sum_{j \in H_i} e^{s_{ij} / \tau}},
        \qquad s_{ij} = \cos(a_i, b_j)

    H_i are the most similar of the row's negatives. Which ones are near is then decided by their rank and not by a small
    temperature alone, so that a larger one can be taken, which spares samples that are alike.

    Args:
        temperature: the temperature tau, above 0.
        hard_fraction: the part of the negatives that counts, above 0; at least one does. The default is 4095 of 50000, the authors'
            on CIFAR; their value for larger images is not known.
        group: the processes whose items are negatives too: None for this one alone, ``"world"``, or a process group. The mean over
            them of the loss and of its gradients is that of one process with the whole batch.
        reduction: as in :class:`torch.nn.CrossEntropyLoss`; ``"none"`` gives the loss of each row.
    Shape: a and b (N, D), of any length; row i of b belongs to row i of a.
    Units: nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Wang and Liu, "Understanding the Behaviour of Contrastive Loss", 2021.

    >>> HardContrastiveLoss(temperature=1.0)(torch.eye(3), torch.eye(3))
    tensor(0.3133)
    """

    def __init__(
        self,
        *,
        temperature: Positive = 0.07,
        hard_fraction: HardFraction = 0.0819,
        group: Group = None,
        reduction: Reduction = "mean",
    ):
        super().__init__(temperature=temperature, hard_fraction=hard_fraction, group=group, reduction=reduction)
