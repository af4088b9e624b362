"""What claims of self-supervised learning share: two views of small images, and how good features are without training."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot, pad

from lossary.arena.plan.recipe import batch_order


def view(images: Tensor, noise: float) -> Tensor:
    """Images (N, 1, H, W), each moved by up to one pixel in both directions, with Gaussian noise of this deviation."""
    n, _, height, width = images.shape
    windows = pad(images, (1, 1, 1, 1)).unfold(2, height, 1).unfold(3, width, 1)  # (N, 1, 3, 3, H, W)
    down, right = torch.randint(3, (2, n))
    moved = windows[torch.arange(n), :, down, right]
    return moved + noise * torch.randn_like(moved)


def counted(rows: int, epochs: int, batch_size: int, seed: int) -> Callable[[], float]:
    """The progress of a training by ``fit``, when asked once for each step."""
    steps = epochs * len(batch_order(seed, 0, rows, batch_size))
    done = iter(range(steps))
    return lambda: next(done) / steps


def neighbour_accuracy(known: Tensor, classes: Tensor, asked: Tensor, truth: Tensor, neighbours: int = 5) -> float:
    """How often the most frequent class among the nearest known features, by cosine, is the right one."""
    near = (normalize(asked) @ normalize(known).T).topk(neighbours, 1).indices
    votes = one_hot(classes[near], int(classes.max()) + 1).sum(1)
    return float((votes.argmax(1) == truth).double().mean())


def balanced_accuracy_of_means(known: Tensor, classes: Tensor, asked: Tensor, truth: Tensor) -> float:
    """The mean over classes of how often the nearest class mean, by cosine, is the right one."""
    labels = classes.unique()
    means = torch.stack([normalize(known)[classes == label].mean(0) for label in labels])
    found = labels[(normalize(asked) @ normalize(means).T).argmax(1)]
    return float(torch.stack([(found[truth == label] == label).double().mean() for label in labels]).mean())
