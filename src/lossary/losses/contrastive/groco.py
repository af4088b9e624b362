"""GroCo: a sorting network puts similarities in order, and positives have to come out behind the negatives."""

import math

import torch
from torch import Tensor

from lossary._core.checks import check_pair
from lossary._core.objective import widen
from lossary._core.parameters import Positive, PositiveCount, SetReduction, formula
from lossary._core.registry import objective
from lossary._fast.pairs.rule import against_all, unit
from lossary.distributed import Group, Ring
from lossary.losses.contrastive._common import TwoViews, direction
from lossary.losses.contrastive._nearest import nearest, similarities_at

LEAST_LOG = -100.0  # where torch's binary cross-entropy stops as well


@formula
def groco(
    a: Tensor,
    b: Tensor,
    *more: Tensor,
    num_negatives: PositiveCount = 10,
    steepness: Positive = 1.0,
    stop_gradient: bool = True,
    group: Group = None,
    reduction: SetReduction = "mean",
) -> Tensor:
    """The pure function behind :class:`GroCoLoss`, with the same parameters."""
    check_pair("groco", a, b)
    for view in more:
        check_pair("groco", a, view, second="more")
    views = [unit(widen(view)) for view in (a, b, *more)]
    ring = Ring("groco", a, group)
    total = a.new_zeros((), dtype=views[0].dtype)
    for place, anchor in enumerate(views):
        others = [x.detach() if stop_gradient else x for x in views]
        given = against_all("groco", anchor, others[place], group=group)
        index = nearest(min(num_negatives, max(ring.total - 1, 0)), **given).flip(1)
        negatives = similarities_at(anchor, given["items"], index)
        positives = torch.stack([(anchor * x).sum(1) for other, x in enumerate(others) if other != place], 1).sort(1).values
        total = total + _cost_of_order(negatives.T, positives.T, steepness).mean(0).sum() / len(views)
    return ring.reduced(total, reduction)


def _cost_of_order(negatives: Tensor, positives: Tensor, steepness: float) -> Tensor:
    """The cross-entropy (K + P, N) of each similarity's probability to come out on its own group's side."""
    values = torch.cat([negatives, positives])
    behind = (torch.arange(values.shape[0], device=values.device) >= negatives.shape[0]).to(values.dtype)
    sides = torch.stack([1 - behind, behind])  # the ranks of the negatives and those of the positives
    mass = _mass_in(sides, values, steepness)
    own = torch.cat([mass[0, : negatives.shape[0]], mass[1, negatives.shape[0] :]]).clamp_max(1.0)
    log = own.clamp_min(torch.finfo(own.dtype).tiny).log()
    return -torch.where(own > 0, log, LEAST_LOG).clamp_min(LEAST_LOG)


def _mass_in(ranks: Tensor, values: Tensor, steepness: float) -> Tensor:
    """How likely each of n values (n, N) ends in each of G sets of ranks (G, n), in ascending order: (G, n, N).

    The n layers of an odd-even network compare neighbours, and swap them by halves. Their product is the n x n matrix of
    probabilities that a value ends at a rank; here it is never formed, but applied to the sets of ranks, from the last layer
    to the first.
    """
    count = values.shape[0]
    places = torch.arange(count, device=values.device)
    layers = []
    for layer in range(count):
        # every other pair of neighbours; at the ends a value may be left over, and is its own partner
        lower = (places - layer) % 2 == 0
        partner = torch.where(lower, places + 1, places - 1)
        partner = torch.where((partner < 0) | (partner >= count), places, partner)
        ahead = values[partner] - values
        sign = (2 * lower.to(values.dtype) - 1).unsqueeze(1)  # the lower place of a pair wants the lower value
        swap = 0.5 - torch.atan(steepness * sign * ahead) / math.pi
        values = values + swap * ahead
        layers.append((partner, swap))
    mass = ranks.unsqueeze(2).expand(*ranks.shape, values.shape[1])
    for partner, swap in reversed(layers):
        mass = mass + swap * (mass[:, partner] - mass)
    return mass


@objective(
    family="contrastive",
    function=groco,
    soft_targets=False,
    decomposable=False,
    spatial=False,
    link="scores",
    distributed="inexact",
    exact_gradient_with={"stop_gradient": False},
    tune={"steepness": (1.0, 30.0)},
)
class GroCoLoss(TwoViews):
    r"""GroCo: a sorting network puts similarities in order, and positives have to come out behind the negatives.

    .. math::
        L_i = \frac{1}{K + P} \sum_j \mathrm{BCE}\Big( \sum_{r > K} X_{jr}, \, [\, j \text{ is positive} \,] \Big), \qquad
        X = \prod_l A_l, \quad \alpha = \tfrac{1}{2} + \tfrac{1}{\pi} \arctan \beta (s_{j+1} - s_j)

    Each view of each sample is once the anchor. Its positives are the other views of the sample, its negatives the K most similar
    other samples of its own view. Both groups are sorted, one behind the other, and pass through an odd-even network, which
    compares neighbours in K + P layers and swaps them in part, by 1 - alpha; X is the matrix of probabilities that similarity j
    ends at rank r. Where a pair stands in its own group does not matter.

    The matrices of all layers, which published programs multiply for each anchor, are applied to two vectors instead, and the
    nearest samples are found in blocks. Cosines differ by 2 at most, which is little at a steepness of 1: every order is then
    likely.

    Args:
        num_negatives: how many negatives K an anchor has at most.
        steepness: the steepness beta of a comparison; a large one is the hard order.
        stop_gradient: whether only the anchor has a gradient.
        group: the processes whose samples are negatives too: None for this one alone, ``"world"``, or a process group. The mean
            over them of the loss and of its gradients is that of one process with the whole batch.
        reduction: ``"mean"`` over the samples, or ``"sum"``.
    Shape: a, b and any number of further views (N, D), of any length.
    Units: nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Shvetsova, Petersen, Kukleva, Schiele and Kuehne, "Learning by Sorting: Self-supervised Learning with Group Ordering
        Constraints", 2023; the sorting network is that of Petersen, Borgelt, Kuehne and Deussen, "Monotonic Differentiable
        Sorting Networks", 2022, with the Cauchy distribution.

    >>> a, b = torch.eye(3), torch.eye(3) + 0.1
    >>> GroCoLoss()(a, b), GroCoLoss(steepness=100.0)(a, b)
    (tensor(0.1998), tensor(0.0024))
    """

    def __init__(
        self,
        *,
        num_negatives: PositiveCount = 10,
        steepness: Positive = 1.0,
        stop_gradient: bool = True,
        group: Group = None,
        reduction: SetReduction = "mean",
    ):
        super().__init__(
            num_negatives=num_negatives, steepness=steepness, stop_gradient=stop_gradient, group=group, reduction=reduction
        )

    def forward(self, a: Tensor, b: Tensor, *more: Tensor) -> Tensor:
        return self.function(a, b, *more, **self.hyperparameters())

    def link(self, output: Tensor) -> Tensor:
        return direction(output)
