"""Which slot stands for which member of a set: the assignment of the least total cost, for many sets at once."""

import itertools
import math
from typing import Any

import torch
from torch import Tensor

from lossary._core.extras import require

FEW = 128  # assignments, up to which all are tried: that takes tensor operations alone


def assign(cost: Tensor, real: Tensor) -> Tensor:
    """The slot of each member (N, T), all different, from cost (N, T, S) with T <= S; any slots for members that are not real."""
    members, slots = cost.shape[1:]
    if math.perm(slots, members) <= FEW:
        return _best_of_all(cost.masked_fill(~real.unsqueeze(2), 0.0))
    return _solve(cost, real)  # type: ignore[no-any-return]


def _best_of_all(cost: Tensor) -> Tensor:
    members, slots = cost.shape[1:]
    ways = list(itertools.permutations(range(slots), members))
    every = torch.tensor(ways, dtype=torch.long, device=cost.device).view(len(ways), members)
    total = cost.gather(2, every.T.expand(cost.shape[0], -1, -1)).sum(1)
    return every[total.argmin(1)]


@torch.library.custom_op("lossary::assign", mutates_args=())
def _solve(cost: Tensor, real: Tensor) -> Tensor:
    require("an exact assignment of more than a few members", "scipy")
    from scipy.optimize import linear_sum_assignment

    found = torch.zeros(cost.shape[:2], dtype=torch.long)
    slots = found.numpy()
    # what is no number stays none in the loss, whatever slot it has
    costs, members = cost.cpu().double().nan_to_num(nan=0.0, posinf=1e30, neginf=-1e30).numpy(), real.cpu().numpy()
    for own, rows, place in zip(costs, members, slots, strict=True):
        place[rows] = linear_sum_assignment(own[rows])[1]
    return found.to(cost.device)


@_solve.register_fake
def _(cost: Tensor, real: Tensor) -> Tensor:
    return cost.new_empty(cost.shape[:2], dtype=torch.long)


@_solve.register_vmap
def _(info: Any, in_dims: tuple[int | None, ...], cost: Tensor, real: Tensor) -> tuple[Tensor, int]:
    size = info.batch_size
    cost, real = (
        x.unsqueeze(0).expand(size, *x.shape) if dim is None else x.movedim(dim, 0)
        for x, dim in zip((cost, real), in_dims, strict=True)
    )
    return _solve(cost.flatten(0, 1), real.flatten(0, 1)).unflatten(0, (size, -1)), 0
