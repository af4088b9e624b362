"""Nearest neighbours in blocks of rows, with their ties, and the score of how they agree with labels.

Neighbours at the same distance have no order. What depends on it takes its expectation over all orders, so that no result
depends on the order of the rows. A matrix product may give two identical items values that differ in their last bits, as
the last columns of a matrix take another path through it. Values that differ by rounding errors alone are therefore ties.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from lossary._core.objective import without_autocast
from lossary._fast.pairs.distances import CLOSE
from lossary._fast.pairs.rule import squares_in_blocks
from lossary.distributed import Group, all_items

TIE = 8  # units in the last place of the largest value by which ties may differ


class Head(NamedTuple):
    """The first k neighbours of each row, best first, each with its group of ties; all (B, k) int64."""

    indices: Tensor
    before: Tensor  # items ahead of the group
    relevant_before: Tensor  # those of the row's class
    size: Tensor  # items in the group, also beyond the first k
    relevant: Tensor  # those of the row's class


def head(s: Tensor, labels: Tensor, item_labels: Tensor, k: int, magnitude: Callable[[Tensor], Tensor] = torch.ones_like) -> Head:
    """The first k of each row of similarities.

    Args:
        s: similarities (B, M), higher is nearer, -inf for an item that does not count; k items or more count.
        labels, item_labels: classes of the rows (B,) and of the items (M,).
        k: length of the head.
        magnitude: magnitude of the terms in similarities (B, k), which scales their rounding errors; 1 for cosines.
    """
    values, indices = s.topk(k, 1)
    tolerance = TIE * torch.finfo(s.dtype).eps * magnitude(values)
    hit = (item_labels[indices] == labels[:, None]).long()
    starts = torch.nn.functional.pad(values[:, :-1] - values[:, 1:] > tolerance[:, 1:], (1, 0), value=False)
    group = starts.long().cumsum(1)
    none = torch.zeros_like(hit)
    size, relevant = none.scatter_add(1, group, torch.ones_like(hit)), none.scatter_add(1, group, hit)
    before, relevant_before = size.cumsum(1) - size, relevant.cumsum(1) - relevant
    # Only the last group can go on beyond the head.
    tied = s >= values[:, -1:] - tolerance[:, -1:]
    more = tied.sum(1, keepdim=True) - k
    if s.device.type != "cpu" or bool((more > 0).any()):  # elsewhere than on a processor the question would wait
        more_relevant = (tied & (item_labels == labels[:, None])).sum(1, keepdim=True) - hit.sum(1, keepdim=True)
        last = group[:, -1:]
        size, relevant = size.scatter_add(1, last, more), relevant.scatter_add(1, last, more_relevant)
    return Head(indices, *(each.gather(1, group) for each in (before, relevant_before, size, relevant)))


def nearest_others(x: Tensor, labels: Tensor, count: int, items: Tensor, item_labels: Tensor, start: int) -> tuple[Tensor, Tensor]:
    """The nearest other items of each row, nearest first, and the share of the row's class among their ties; both (N, count).

    The rows x (N, D) are items (M, D) from ``start`` on. A row is distinguished from its duplicates by its position.
    """
    found = torch.empty(len(x), count, dtype=torch.int64, device=x.device)
    share = torch.empty(len(x), count, dtype=x.dtype, device=x.device)
    if not found.numel():
        return found, share
    with torch.no_grad(), without_autocast(x):
        centre = items.mean(0)  # distances stay, and fewer of them are small beside the lengths
        anchors, items = x - centre, items - centre
        longest = items.square().sum(1).amax() + anchors.square().sum(1, keepdim=True)
        for rows, squares in squares_in_blocks(anchors, items):
            squares.neg_()[:, start:].diagonal(rows.start).fill_(-torch.inf)
            scale = longest[rows]
            # Squares of close pairs come from differences, the others from products, with errors of the size of the lengths.
            nearest = head(squares, labels[rows], item_labels, count, functools.partial(_rounding_of_squares, scale))
            found[rows], share[rows] = nearest.indices, nearest.relevant.to(x.dtype) / nearest.size
    return found, share


def _rounding_of_squares(scale: Tensor, negative: Tensor) -> Tensor:
    """The size whose rounding a negative square (B, M) has, given that of the lengths (B, 1)."""
    return torch.where(-negative > CLOSE * scale, scale, -negative)


def inter_and_intra_class_score(
    owner: str, x: Tensor, labels: Tensor, neighbors: int | None, retrieved: int | None, group: Group = None
) -> Tensor:
    """The ICNN score of the batch of all processes; differentiable by the distances to the neighbours.

    Each process finds the neighbours of its own samples. Of these all have the distances, and make the score of them.
    Neighbours at one distance are of the same class by the share of that class among them.
    """
    items, start, _ = all_items(owner, x, group)
    item_labels = all_items(owner, labels, group).items
    n = len(items)
    if n < 3:
        return 1 + 0 * x.sum()
    smallest = _smallest_class(item_labels) if neighbors is None else neighbors + 1
    k = max(1, min(smallest - 1, n - 2))
    within = max(k, min(retrieved or k + 1, n - 1))
    place, share = nearest_others(x.detach(), labels, within, items.detach(), item_labels, start)
    own = ((x[:, None] - items[place]).square().sum(2) + torch.finfo(x.dtype).eps ** 2).sqrt()
    d = all_items(owner, own, group).items
    same = all_items(owner, share, group).items
    foreign = d.masked_fill(same == 1, torch.inf).amin(1, keepdim=True)
    reached = foreign < torch.inf
    relative = torch.where(reached, d[:, :k] / torch.where(reached, foreign, 1.0), 0.0)
    relative = relative / relative.amax(1, keepdim=True).clamp_min(1)
    alike, other = same[:, :k], 1 - same[:, :k]
    compact = 1 - _mean_of_rows(relative, alike)
    largest = d[:, :k].masked_fill(other == 0, 0.0).amax()
    some = other.any()
    apart = torch.where(some, _mean_of_rows(d[:, :k] / torch.where(some, largest, 1.0), other), 1.0)
    agreement = alike.mean() if k + 2 < n else x.new_ones(())
    return ((compact + apart) / 2 + agreement) / 2


def _smallest_class(labels: Tensor) -> int:
    """Decides a number of neighbours, and so a shape: an accelerator is waited for, and meta tensors have any."""
    return 2 if labels.is_meta else int(labels.unique(return_counts=True)[1].min())


def _mean_of_rows(x: Tensor, weight: Tensor) -> Tensor:
    """The mean, over the rows with any weight, of their weighted means."""
    total = weight.sum(1)
    rows = (x * weight).sum(1) / torch.where(total > 0, total, 1.0)
    return rows.sum() / (total > 0).sum().clamp_min(1)
