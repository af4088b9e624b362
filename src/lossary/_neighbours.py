"""Nearest neighbours by Euclidean distance, found a block of rows at a time, and the score of how they agree with labels."""

import torch
from torch import Tensor

from lossary._objective import without_autocast
from lossary._pairs import squares_in_blocks
from lossary.distributed import Group, all_items


def nearest_others(x: Tensor, count: int, items: Tensor | None = None, start: int = 0) -> Tensor:
    """(N, count): which other items are nearest to each row, nearest first.

    The items are the rows, or have them from ``start`` on. A row is told from its duplicates by its place.
    """
    items = x if items is None else items
    found = torch.empty(len(x), count, dtype=torch.int64, device=x.device)
    if not found.numel():
        return found
    with torch.no_grad(), without_autocast(x):
        centre = items.mean(0)  # distances stay, and fewer of them are small beside the lengths
        for rows, squares in squares_in_blocks(x - centre, items - centre):
            squares[:, start:].diagonal(rows.start).fill_(torch.inf)
            found[rows] = squares.topk(count, 1, largest=False).indices
    return found


def inter_and_intra_class_score(
    owner: str, x: Tensor, labels: Tensor, neighbors: int | None, retrieved: int | None, group: Group = None
) -> Tensor:
    """The ICNN score of the batch of all processes; differentiable by the distances to the neighbours.

    Each process finds the neighbours of its own samples. Of these all have the distances, and make the score of them.
    """
    items, start, _ = all_items(owner, x, group)
    item_labels = all_items(owner, labels, group).items
    n = len(items)
    if n < 3:
        return 1 + 0 * x.sum()
    smallest = _smallest_class(item_labels) if neighbors is None else neighbors + 1
    k = max(1, min(smallest - 1, n - 2))
    within = max(k, min(retrieved or k + 1, n - 1))
    place = nearest_others(x.detach(), within, items.detach(), start)
    own = ((x[:, None] - items[place]).square().sum(2) + torch.finfo(x.dtype).eps ** 2).sqrt()
    d = all_items(owner, own, group).items
    same = all_items(owner, item_labels[place] == labels[:, None], group).items
    foreign = d.masked_fill(same, torch.inf).amin(1, keepdim=True)
    reached = foreign < torch.inf
    relative = torch.where(reached, d[:, :k] / torch.where(reached, foreign, 1.0), 0.0)
    relative = relative / relative.amax(1, keepdim=True).clamp_min(1)
    alike, other = same[:, :k], ~same[:, :k]
    compact = 1 - _mean_of_rows(relative, alike)
    largest = d[:, :k].masked_fill(~other, 0.0).amax()
    some = other.any()
    apart = torch.where(some, _mean_of_rows(d[:, :k] / torch.where(some, largest, 1.0), other), 1.0)
    share = alike.to(x.dtype).mean() if k + 2 < n else x.new_ones(())
    return ((compact + apart) / 2 + share) / 2


def _smallest_class(labels: Tensor) -> int:
    """Decides a number of neighbours, and so a shape: an accelerator is waited for, and meta tensors have any."""
    return 2 if labels.is_meta else int(labels.unique(return_counts=True)[1].min())


def _mean_of_rows(x: Tensor, chosen: Tensor) -> Tensor:
    """The mean, over the rows that have a chosen element, of the mean of these."""
    count = chosen.sum(1)
    rows = x.masked_fill(~chosen, 0.0).sum(1) / count.clamp_min(1)
    return rows.sum() / (count > 0).sum().clamp_min(1)
