"""NDCG by a relaxed sorting matrix, made doubly stochastic by scaling vectors."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lossary.losses.ranking._common import (
    Kernel,
    Lists,
    average_over_lists,
    by_list,
    by_score,
    check_lists,
    discounts,
    normalized_gains,
)

# (sorting matrix (lists, ranks, items), gains (lists, items), discounts (ranks,)) -> (lists,)
Total = Callable[[Tensor, Tensor, Tensor], Tensor]
EPS = 1e-10  # beside the lowest score, before the logarithm


@dataclass(frozen=True)
class Sorting:
    """How sharply items are sorted, and how often rows and columns are scaled."""

    temperature: float
    rounds: int
    tolerance: float
    k: int | None


@dataclass(frozen=True)
class Stochastic:
    """How many draws of noise, and how strong it is."""

    samples: int
    beta: float


def neural_loss(
    owner: str,
    scores: Tensor,
    relevance: Tensor,
    mask: Tensor | None,
    total: Total,
    *,
    sorting: Sorting,
    exponential_gain: bool,
    noise: Stochastic | None,
    reduction: str,
) -> Tensor:
    """Minus the relaxed NDCG, summed in the order of ``total``."""
    lists = check_lists(owner, scores, relevance, mask)
    gain, counts = normalized_gains(lists, exponential_gain, sorting.k)
    if noise is not None:
        lists, gain = perturbed(lists, noise), gain.repeat(noise.samples, 1)
    plain = functools.partial(_plain, sorting, total)
    constants = gain, lists.real, by_score(lists)
    per_list = by_list(plain, functools.partial(_kernel, sorting), lists.scores, *constants, work=sorting.rounds + 1)
    if noise is not None:
        per_list = per_list.view(noise.samples, -1).mean(0)
    return average_over_lists(per_list, counts, reduction)


def perturbed(lists: Lists, of: Stochastic) -> Lists:
    """Each list several times, with noise on the logarithm of how far scores are above the lowest: (samples * lists, items)."""
    lowest = lists.scores.masked_fill(~lists.real, torch.inf).amin(1, keepdim=True)
    above = torch.where(lists.real, lists.scores - lowest, 0.0)
    at_bottom = above <= 0  # constant, where the logarithm's slope would be beyond all bounds
    scores = torch.where(at_bottom, above.new_full((), EPS).log(), (torch.where(at_bottom, 1.0, above) + EPS).log())
    uniform = torch.rand(of.samples, *scores.shape, dtype=scores.dtype, device=scores.device)
    noise = -(-(uniform + EPS).log() + EPS).log()
    again = (of.samples, 1)
    return Lists((scores + of.beta * noise).flatten(0, 1), lists.relevance.repeat(again), lists.real.repeat(again))


def sorting_matrix(scores: Tensor, real: Tensor, sorting: Sorting) -> Tensor:
    """P (lists, ranks, items) for items in the order of their scores, padding last; 0 for padding."""
    items = scores.shape[1]
    padding = torch.diag_embed((~real).to(scores.dtype))  # scaled by itself, so that nothing is divided by 0
    there = real.unsqueeze(2) & real.unsqueeze(1)
    # The exponents are differences of products with the number of items, and lose their digits first.
    wide = scores / sorting.temperature if scores.device.type == "mps" else scores.double() / sorting.temperature
    weight = real.sum(1, keepdim=True) - 1 - 2 * torch.arange(items, device=scores.device)
    distances = torch.where(there, (wide.unsqueeze(2) - wide.unsqueeze(1)).abs(), 0.0).sum(1)
    mine, own = wide.detach().unsqueeze(2), distances.detach().unsqueeze(2)  # what is the same for a row does not matter
    exponents = weight.unsqueeze(2) * (wide.unsqueeze(1) - mine) - (distances.unsqueeze(1) - own)
    K = exponents.masked_fill(~there, -torch.inf).masked_fill(~real.unsqueeze(2), 0.0).to(scores.dtype).softmax(2)
    K = torch.where(there, K, padding)
    u, v = torch.ones_like(scores), torch.ones_like(scores)
    done = torch.zeros_like(real[:, :1])
    sums = K.sum(1)
    for _ in range(sorting.rounds):
        v = torch.where(done, v, 1 / sums)
        u = torch.where(done, u, 1 / (K @ v.unsqueeze(2)).squeeze(2))
        sums = (u.unsqueeze(1) @ K).squeeze(1)
        done = ((v * sums - 1).detach().abs() < sorting.tolerance).all(1, keepdim=True)
    return torch.where(there, u.unsqueeze(2) * K * v.unsqueeze(1), 0.0)


def _plain(sorting: Sorting, total: Total, scores: Tensor, gain: Tensor, real: Tensor, order: Tensor) -> Tensor:
    s, g, there = (each.gather(1, order) for each in (scores, gain, real))
    return -total(sorting_matrix(s, there, sorting), g, discounts(s.shape[1], sorting.k, s))


def _kernel(sorting: Sorting) -> Kernel:
    from lossary.losses.ranking import _loops  # which imports Numba

    def kernel(scores: Tensor, gain: Tensor, real: Tensor, order: Tensor, wanted: bool) -> tuple[Tensor, Tensor]:
        items = scores.shape[1]
        value, gradient = scores.new_empty(len(scores)), scores.new_zeros(scores.shape if wanted else (0, items))
        arrays = [x.detach().numpy() for x in (scores, gain, real, order, discounts(items, sorting.k, scores), value, gradient)]
        _loops.relaxed_ndcg(*arrays, sorting.temperature, sorting.rounds, sorting.tolerance)
        return value, gradient

    return kernel
