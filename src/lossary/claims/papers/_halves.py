"""Images cut in two: the left half of a digit has to find its right half among others, as an image has to find its text."""

import torch
from torch import Tensor

from lossary.arena.data.splits import Split
from lossary.claims._sources import Real, pixels, split_of

DIGITS = Real("digits", (pixels,))


def halves(seed: int, seeds: int) -> tuple[Split, tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """A division of the digits, and the halves (rows, 32) of its training and of its test part."""
    split = split_of(DIGITS, seed, seeds)
    cut = [part.features.reshape(len(part.features), 8, 8) for part in (split.train, split.test)]
    train, test = ((x[:, :, :4].flatten(1), x[:, :, 4:].flatten(1)) for x in cut)
    return split, train, test


def recall_at(k: int, a: Tensor, b: Tensor) -> float:
    """How often row i of b is among the k rows most similar to row i of a."""
    s = torch.nn.functional.normalize(a) @ torch.nn.functional.normalize(b).T
    better = (s > s.diagonal().unsqueeze(1)).sum(1)
    return float((better < k).float().mean())
