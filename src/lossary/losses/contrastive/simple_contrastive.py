"""The simple contrastive loss: pull the positive, push all negatives alike."""

from torch import Tensor

from lossary._core.objective import without_autocast
from lossary._core.parameters import NonNegative, Reduction, formula
from lossary._core.registry import objective
from lossary._fast.pairs.tiles import paired_inputs
from lossary.distributed import Group, Ring, total
from lossary.losses.contrastive._common import TwoViews
from lossary.losses.contrastive._hardest import HardFraction, hardest_negatives


@formula
def simple_contrastive(
    a: Tensor,
    b: Tensor,
    *,
    negative_weight: NonNegative | None = None,
    hard_fraction: HardFraction | None = None,
    group: Group = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`SimpleContrastiveLoss`, with the same parameters."""
    a, b = paired_inputs("simple_contrastive", a, b)
    ring = Ring("simple_contrastive", b, group)
    if hard_fraction is not None:

        def of_row(positive: Tensor, negatives: Tensor) -> Tensor:
            weight = 1 / max(negatives.shape[1], 1) if negative_weight is None else negative_weight
            return weight * negatives.sum(1) - positive

        return hardest_negatives(a, b, of_row, hard_fraction, ring, reduction)
    weight = 1 / max(ring.total - 1, 1) if negative_weight is None else negative_weight
    positive = (a * b).sum(1)
    with without_autocast(a):
        all_similarities = a @ total("simple_contrastive", b.sum(0), group)  # their sum needs no matrix
    rows = weight * (all_similarities - positive) - positive
    return rows if reduction == "none" else ring.reduced(rows.sum(), reduction)


@objective(
    family="contrastive",
    function=simple_contrastive,
    soft_targets=False,
    decomposable=False,
    spatial=False,
    link="scores",
    distributed="inexact",
)
class SimpleContrastiveLoss(TwoViews):
    r"""The simple contrastive loss: pull the positive, push all negatives alike.

    .. math:: \ell_i = -s_{ii} + \lambda \sum_{j \ne i} s_{ij}, \qquad s_{ij} = \cos(a_i, b_j)

    What is left of InfoNCE (``info_nce``) for a large temperature: near negatives are pushed no harder than far ones, which the
    authors find to be much worse. With ``hard_fraction`` only the nearest negatives of each row count, which repairs most of it.

    Args:
        negative_weight: the weight lambda; the default is one over the number of negatives that count. The authors do not print
            theirs.
        hard_fraction: the part of the negatives that counts, the most similar ones, above 0; at least one does. None is all.
        group: the processes whose items are negatives too: None for this one alone, ``"world"``, or a process group. The mean over
            them of the loss and of its gradients is that of one process with the whole batch.
        reduction: as in :class:`torch.nn.CrossEntropyLoss`; ``"none"`` gives the loss of each row.
    Shape: a and b (N, D), of any length; row i of b belongs to row i of a.
    Units: cosines.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Wang and Liu, "Understanding the Behaviour of Contrastive Loss", 2021.

    >>> SimpleContrastiveLoss()(torch.eye(2), torch.eye(2))
    tensor(-1.)
    """

    def __init__(
        self,
        *,
        negative_weight: NonNegative | None = None,
        hard_fraction: HardFraction | None = None,
        group: Group = None,
        reduction: Reduction = "mean",
    ):
        super().__init__(negative_weight=negative_weight, hard_fraction=hard_fraction, group=group, reduction=reduction)
