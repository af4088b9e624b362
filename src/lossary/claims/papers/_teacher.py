"""What claims about distillation share: digits, and a teacher that has learned them."""

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from lossary.claims._fit import fit, mlp
from lossary.claims._sources import Real, pixels, split_of

DIGITS = Real("digits", (pixels,))


@dataclass(frozen=True)
class Lesson:
    """Images and labels of the training part, what the teacher says of them, and the test part."""

    images: Tensor
    target: Tensor
    features: Tensor  # of the teacher's last hidden layer, rectified (N, width)
    logits: Tensor
    tested: Tensor
    truth: Tensor


@functools.lru_cache(maxsize=4)
def lesson(seed: int, seeds: int, width: int, epochs: int) -> Lesson:
    """A teacher of one hidden layer on the training part of a seed's split."""
    split = split_of(DIGITS, seed, seeds)
    images, target = split.train.features.flatten(1), split.train.target
    teacher = mlp(1000 + seed, 64, width, 10)

    def loss(batch: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(teacher(images[batch]), target[batch])

    fit(teacher.parameters(), loss, len(target), epochs=epochs, batch_size=50, seed=seed)
    with torch.no_grad():
        features = teacher[:-1](images)
        logits = teacher[-1](features)
    return Lesson(images, target, features, logits, split.test.features.flatten(1), torch.from_numpy(split.test.truth))
