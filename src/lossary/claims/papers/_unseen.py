"""Digits that were not there in training: an embedding learns from 0 to 4, and 5 to 9 are told apart by it."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from lossary.claims._fit import fit, mlp
from lossary.claims._sources import Real, pixels, split_of

DIGITS, SEEDS, OLD, WIDTH = Real("digits", (pixels,)), 10, 5, 32
TRAINED = (
    "Networks of one hidden layer of 128 with an embedding of 32 learn from digits 0 to 4, 20 epochs in batches of 100 with Adam at"
    " 0.003;"
)
DISTINCT = 1 / 180  # the smallest step of a share of the new test images

Objective = Callable[[Tensor, Tensor], Tensor]


def unseen(seed: int, make: Mapping[str, Callable[[], Objective]]) -> dict[str, tuple[Tensor, Tensor]]:
    """For each objective, the embeddings of the test images of new digits, and which they are."""
    split = split_of(DIGITS, seed, SEEDS)
    images, target = split.train.features.flatten(1), split.train.target
    old = target < OLD
    truth = torch.from_numpy(split.test.truth)
    new = truth >= OLD
    found = {}
    for name, build in make.items():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            embed, objective = mlp(seed, 64, 128, WIDTH), build()
            own = list(objective.parameters()) if isinstance(objective, nn.Module) else []

            def loss(batch: Tensor, embed: nn.Module = embed, objective: Objective = objective) -> Tensor:
                return objective(embed(images[old][batch]), target[old][batch])

            fit([*embed.parameters(), *own], loss, int(old.sum()), epochs=20, batch_size=100, seed=seed)
        with torch.no_grad():
            found[name] = embed(split.test.features.flatten(1)[new]), truth[new]
    return found
