"""Sums over pairs of items of a weight times the logistic loss of the difference of their scores."""

import functools
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from lossary._fast.lists.rule import Kernel, by_list
from lossary.losses.ranking._common import Lists, by_score, discounts


@dataclass(frozen=True)
class Weights:
    r"""What a pair of items with gains :math:`g_i > g_j` weighs, :math:`r` being the ranks by score:

    .. math:: w_{ij} = \left( a\,(d(|r_i - r_j|) - d(|r_i - r_j| + 1)) + b\,|d_k(r_i) - d_k(r_j)| \right) (g_i - g_j)

    or 1 without gains, with :math:`d(r) = 1 / \log_2(1 + r)`, and :math:`d_k` the same but 0 beyond rank k. One of the two has to
    be among the first k.
    """

    of_distance: float = 0.0  # a
    of_discounts: float = 0.0  # b
    by_gain: bool = True
    k: int | None = None

    def tables(self, items: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """a (d(m) - d(m + 1)) for the distances m, and b d_k(r) for the ranks; both (items,)."""
        plain = discounts(items, None, like)
        steps = torch.nn.functional.pad(plain[:-1] - plain[1:], (1, 0))[:items]
        return self.of_distance * steps, self.of_discounts * discounts(items, self.k, like)


def logistic_pairs(lists: Lists, gain: Tensor, weights: Weights, sigma: float) -> Tensor:
    """The sum over the pairs of each list of w_ij log(1 + exp(-sigma (s_i - s_j))); items of equal scores rank as they come."""
    plain = functools.partial(_plain, weights, sigma)
    return by_list(plain, functools.partial(_kernel, weights, sigma), lists.scores, gain, lists.real, by_score(lists))


def _plain(weights: Weights, sigma: float, scores: Tensor, gain: Tensor, real: Tensor, order: Tensor) -> Tensor:
    items = scores.shape[1]
    s, g, there = (x.gather(1, order) for x in (scores, gain, real))
    place = torch.arange(items, device=scores.device)
    counted = (g.unsqueeze(2) > g.unsqueeze(1)) & there.unsqueeze(2) & there.unsqueeze(1)
    if weights.k is not None:
        counted = counted & (torch.minimum(place.unsqueeze(1), place) < weights.k)
    losses = -logsigmoid(sigma * (s.unsqueeze(2) - s.unsqueeze(1)))
    if weights.by_gain:
        steps, discount = weights.tables(items, g)
        swapped = steps[(place.unsqueeze(1) - place).abs()] + (discount.unsqueeze(1) - discount).abs()
        losses = losses * (swapped * (g.unsqueeze(2) - g.unsqueeze(1)))
    return torch.where(counted, losses, 0.0).sum((1, 2))


def _kernel(weights: Weights, sigma: float) -> Kernel:
    from lossary._fast.lists import loops as lists_loops

    def kernel(scores: Tensor, gain: Tensor, real: Tensor, order: Tensor, wanted: bool) -> tuple[Tensor, Tensor]:
        items = scores.shape[1]
        value, gradient = scores.new_empty(len(scores)), scores.new_zeros(scores.shape if wanted else (0, items))
        arrays = [x.detach().numpy() for x in (scores, gain, real, order, *weights.tables(items, gain), value, gradient)]
        lists_loops.logistic_pairs(*arrays, sigma, weights.by_gain, min(weights.k or items, items))
        return value, gradient

    return kernel
