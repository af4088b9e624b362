"""iSogCLR: contrast with a temperature of its own for each sample."""

import math
from typing import Annotated, Any

import torch
from torch import Tensor

from lossary._core.checks import check_floating, check_integers, check_pair, check_shape
from lossary._core.objective import Objective, widen
from lossary._core.parameters import Fraction, Interval, NonNegative, Positive, PositiveCount, SetReduction, formula
from lossary._core.registry import objective
from lossary._fast.pairs.rule import Pairs, against_all, log_sum_exp, over_rows, unit
from lossary.distributed import Group, Ring, all_items
from lossary.losses.contrastive._common import direction

Share = Annotated[float, Interval(low=0.0, high=1.0, open_low=True)]
State = tuple[Tensor, Tensor, Tensor]


@formula
def isogclr(
    a: Tensor,
    b: Tensor,
    index: Tensor,
    log_s: Tensor,
    u: Tensor,
    temperature: Tensor,
    seen: Tensor,
    *,
    gamma: Share = 0.8,
    min_temperature: Positive = 0.05,
    max_temperature: Positive = 1.0,
    rho: NonNegative = 0.3,
    temperature_lr: NonNegative = 0.001,
    temperature_momentum: Fraction = 0.9,
    grad_clip: Positive = 3.0,
    group: Group = None,
    reduction: SetReduction = "mean",
) -> tuple[Tensor, State]:
    """The pure function behind :class:`ISogCLRLoss`: the loss, and what ``log_s``, ``u`` and ``temperature`` become for the
    samples of the batch, each (N,)."""
    check_pair("isogclr", a, b)
    check_integers("isogclr", "index", index)
    n = a.shape[0]
    check_shape("isogclr", "index", index, (n,))
    index = index.long()
    for name, state in (("log_s", log_s), ("u", u), ("temperature", temperature)):
        check_floating("isogclr", name, state)
    views = unit(widen(torch.cat([a, b])))
    old_log_s, old_u, tau = (state.index_select(0, index).to(views.dtype) for state in (log_s, u, temperature))
    positive = (views * views.roll(n, 0)).sum(1)
    ring = Ring("isogclr", a, group)
    if ring.total < 2:  # no other sample to be told from
        return ring.reduced(-positive.sum(), reduction), (old_log_s, old_u, tau)
    negatives = 2 * ring.total - 2

    def row(c: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor, Tensor]:
        own_tau, before, known = pairs.anchor_sides
        z = c.detach() / own_tau[:, None]
        now = log_sum_exp(z, pairs.negative) - math.log(negatives)
        blend = torch.logaddexp(now + math.log(gamma), before + math.log1p(-gamma)) if gamma < 1 else now
        estimate = torch.where(known, blend, now)
        w = torch.where(pairs.negative, (z - estimate[:, None]).exp(), 0.0) / negatives
        return (w * c).sum(1), estimate, (w * z).sum(1)

    sides = [tau.repeat(2), old_log_s.repeat(2), seen[index].repeat(2)]
    sample = torch.arange(n, device=a.device).repeat(2) + ring.start
    given = against_all("isogclr", views, labels=sample, group=group)
    negative, estimate, weighed = over_rows(row, **given, anchor_sides=sides)
    with torch.no_grad():
        by_tau = (estimate + rho - weighed).view(2, n).mean(0).clamp(-grad_clip, grad_clip)
        new_u = temperature_momentum * by_tau + (1 - temperature_momentum) * old_u
        new_tau = (tau - temperature_lr * new_u).clamp(min_temperature, max_temperature)
        first, second = estimate.view(2, n)
        new_log_s = torch.logaddexp(first, second) - math.log(2)
    return ring.reduced((negative - positive).sum(), reduction), (new_log_s, new_u, new_tau)


@objective(
    family="contrastive",
    function=isogclr,
    soft_targets=False,
    decomposable=False,
    spatial=False,
    value_is_objective=False,
    link="scores",
    vmap=False,  # it writes into its memory
    distributed="inexact",
    tune={"rho": (0.1, 0.5)},
)
class ISogCLRLoss(Objective):
    r"""iSogCLR: contrast in which each sample learns a temperature of its own, by a worst case over its negatives.

    .. math::
        \min_\tau \; \tau \log \frac{1}{2N - 2} \sum_j e^{(s_j - s_+) / \tau} + \rho \tau, \qquad
        \nabla L_i = \sum_j \frac{e^{s_j / \tau_i}}{(2N - 2) \, \hat{s}_i} \nabla s_j - \nabla s_+

    For a sample's view, s+ is the cosine with its other view, and s_j are those with both views of all other samples. It is the
    worst mean of the negatives under any weights whose divergence from uniform ones is at most rho. The mean of the exponentials
    is estimated by a moving average over the visits, so that small batches do as well as large ones; the temperature takes a step
    with momentum at each visit. Samples of frequent kinds, which have many similar negatives, get higher temperatures.

    The value is a surrogate with the right gradient: it is not to be compared between steps. The memory keeps the logarithm of the
    average (published programs keep the average, which has no float32 number at temperatures below 0.01), travels in
    ``state_dict``, and is written in training only. A sample that is twice in a batch is its own negative, and its last visit is
    kept. The pairs are seen in blocks and never held whole.

    With ``group`` each process writes what all of them found, in their order, so that every one holds the memory that one process
    would hold. Without it ``DistributedDataParallel`` overwrites the memory of all processes by that of the first.

    Args:
        num_samples: the size of the training set.
        gamma: the share of the batch at hand in the moving average; at 1 there is no memory.
        init_temperature: what all temperatures start from.
        min_temperature, max_temperature: the range of the temperatures.
        rho: the radius of the worst case; it has to be below log(2N - 2). The authors recommend 0.1 to 0.5 for images alone, and
            6 to 8 with temperatures from 0.005 to 0.05 for images with texts.
        temperature_lr: the step of the temperatures.
        temperature_momentum: the share of the gradient at hand in the momentum of the temperatures.
        grad_clip: the largest gradient of a temperature.
        group: the processes whose samples are negatives too: None for this one alone, ``"world"``, or a process group. The mean
            over them of the loss and of its gradients is that of one process with the whole batch.
        reduction: ``"mean"`` over the samples, or ``"sum"``.
    Shape: a and b (N, D), of any length; index (N,) int64, the places of the samples in the training set.
    Units: cosines.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Qiu et al., "Not All Semantics are Created Equal: Contrastive Self-supervised Learning with Automatic Temperature
        Individualization", 2023.

    >>> loss = ISogCLRLoss(num_samples=100)
    >>> loss(torch.eye(3), torch.eye(3) + 0.5, torch.tensor([7, 42, 99]))
    tensor(-0.8780)
    >>> loss.temperature[[0, 42]]
    tensor([0.0700, 0.0703])
    """

    consumes = "embedding"
    requires = ("index",)
    group: Group
    log_s: Tensor
    u: Tensor
    temperature: Tensor
    seen: Tensor
    init_temperature: float

    def __init__(
        self,
        *,
        num_samples: PositiveCount,
        gamma: Share = 0.8,
        init_temperature: Positive = 0.07,
        min_temperature: Positive = 0.05,
        max_temperature: Positive = 1.0,
        rho: NonNegative = 0.3,
        temperature_lr: NonNegative = 0.001,
        temperature_momentum: Fraction = 0.9,
        grad_clip: Positive = 3.0,
        group: Group = None,
        reduction: SetReduction = "mean",
    ):
        super().__init__(
            num_samples=num_samples,
            gamma=gamma,
            init_temperature=init_temperature,
            min_temperature=min_temperature,
            max_temperature=max_temperature,
            rho=rho,
            temperature_lr=temperature_lr,
            temperature_momentum=temperature_momentum,
            grad_clip=grad_clip,
            group=group,
            reduction=reduction,
        )
        for name in ("log_s", "u", "temperature"):
            self.register_buffer(name, torch.empty(num_samples))
        self.register_buffer("seen", torch.empty(num_samples, dtype=torch.bool))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        self.log_s.zero_()
        self.u.zero_()
        self.temperature.fill_(self.init_temperature)
        self.seen.fill_(False)

    def forward(self, a: Tensor, b: Tensor, index: Tensor) -> Tensor:
        parameters: dict[str, Any] = self.hyperparameters()
        del parameters["num_samples"], parameters["init_temperature"]
        loss, new = isogclr(a, b, index, self.log_s, self.u, self.temperature, self.seen, **parameters)
        if self.training:
            visited, values = (all_items("isogclr", x, self.group).items for x in (index.long(), torch.stack(new, 1)))
            if len(visited) > 1:
                for memory, value in zip((self.log_s, self.u, self.temperature), values.unbind(1), strict=True):
                    memory[visited] = value.to(memory.dtype)
                self.seen[visited] = True
        return loss

    def link(self, output: Tensor) -> Tensor:
        return direction(output)
