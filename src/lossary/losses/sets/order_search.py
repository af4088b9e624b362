"""Order search: a set is put out in the order that the model itself finds likeliest."""

import math
from typing import Annotated, Literal

import torch
from torch import Tensor

from lossary._core.checks import check_floating, shape_text
from lossary._core.objective import Objective, reduce, widen
from lossary._core.parameters import Fraction, OneOf, PositiveCount, Reduction, checked, done, formula
from lossary._core.registry import objective
from lossary.errors import InvalidValueError

Mode = Annotated[Literal["max", "sample"], OneOf(("max", "sample"))]
LISTED = 8  # places of which all orders are listed, 40320


@formula
def order_search(
    log_prob: Tensor,
    progress: float | None = None,
    *,
    mode: Mode = "max",
    pretrain_fraction: Fraction = 0.1,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`OrderSearchLoss`, with the same parameters."""
    check_floating("order_search", "log_prob", log_prob)
    if log_prob.ndim != 2 or not log_prob.shape[1]:
        raise InvalidValueError(f"order_search: log_prob must have shape (N, K), K >= 1, got {shape_text(tuple(log_prob.shape))}")
    wide = widen(log_prob)
    if progress is not None and done("order_search", progress) < pretrain_fraction:
        found = _mean_of_candidates(wide)
    elif mode == "max":
        found = wide.amax(1)
    else:
        noise = -torch.empty_like(wide).exponential_().log()  # Gumbel's, whose highest sum is a draw
        found = wide.gather(1, (wide.detach() + noise).argmax(1, keepdim=True)).squeeze(1)
    return reduce(-found, found.shape[0], reduction)


def _mean_of_candidates(log_prob: Tensor) -> Tensor:
    """Means (N,) over the candidates of log_prob (N, K), without those at -inf, which are none."""
    none = log_prob == -torch.inf
    count = (~none).sum(1)
    mean = log_prob.masked_fill(none, 0.0).sum(1) / count.clamp_min(1)
    return torch.where(count > 0, mean, -torch.inf)


@checked("candidate_orders")
def candidate_orders(n: PositiveCount, k: PositiveCount, generator: torch.Generator | None = None) -> Tensor:
    """Different orders of n places (k, n), the natural one first: all n! of them if k is no less, else the others by chance.

    Draws come from torch's global generator unless another one is given.
    """
    natural = torch.arange(n).unsqueeze(0)
    if n <= LISTED:
        every = torch.zeros(1, 1, dtype=torch.long)
        for last in range(1, n):  # put the next place everywhere into the orders of those before it
            added = torch.full((len(every), 1), last)
            every = torch.cat([torch.cat([every[:, :at], added, every[:, at:]], 1) for at in range(last, -1, -1)])
        if k >= len(every):
            return every
        return torch.cat([natural, every[1 + torch.randperm(len(every) - 1, generator=generator)[: k - 1]]])
    if n <= 20:
        k = min(k, math.factorial(n))
    orders = natural
    while len(orders) < k:  # beyond so many places hardly any order comes twice
        drawn = torch.rand(k - len(orders), n, generator=generator).argsort(1)
        together = torch.cat([orders, drawn])
        _, first = torch.unique(together, dim=0, return_inverse=True)
        place = torch.full((int(first.max()) + 1,), len(together)).scatter_reduce(0, first, torch.arange(len(together)), "amin")
        orders = together[place.sort().values]
    return orders


@objective(family="sets", function=order_search, soft_targets=False, spatial=False, link="value")
class OrderSearchLoss(Objective):
    r"""Order search: minus the log-probability of the best order of a set, among candidates.

    .. math:: \ell = -\max_k \log p(\pi_k(X) \mid \mathrm{input})

    The model gives the log-probability of the set's members in each of K candidate orders, which
    ``lossary.functional.candidate_orders`` makes. Whoever takes the best order from the first step on is bound to one that came out
    ahead by chance, so for a first part of training all candidates count alike: the loss is then their mean, which is what uniform
    draws are on average.

    Args:
        mode: ``"max"`` takes the likeliest candidate, ``"sample"`` draws one by its probability under the model, from torch's
            global generator.
        pretrain_fraction: the first part of training in which all candidates count alike, where ``progress`` is given. The paper
            has 1000 steps.
        reduction: ``"mean"``, ``"sum"`` or ``"none"`` over the sets.
    Shape: log_prob (N, K), -inf for a candidate that is none; progress a number in [0, 1].
    Units: nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Vinyals, Bengio and Kudlur, "Order Matters: Sequence to Sequence for Sets", 2015.

    >>> OrderSearchLoss()(torch.tensor([[-1.5, -0.5, -4.0]]), progress=0.7)
    tensor(0.5000)
    """

    consumes = "logits"

    def __init__(self, *, mode: Mode = "max", pretrain_fraction: Fraction = 0.1, reduction: Reduction = "mean"):
        super().__init__(mode=mode, pretrain_fraction=pretrain_fraction, reduction=reduction)

    def forward(self, log_prob: Tensor, progress: float | None = None) -> Tensor:
        return self.function(log_prob, progress, **self.hyperparameters())

    def link(self, output: Tensor) -> Tensor:
        return output
