"""A training loop for computations that the arena's program does not cover: other optimizers, side inputs, own layers."""

import itertools
from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor, nn

from lossary.arena.plan.recipe import batch_order

ADAM = partial(torch.optim.Adam, lr=3e-3)


def fit(
    parameters: Iterable[Tensor],
    loss: Callable[[Tensor], Tensor],
    rows: int,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    optimizer: Callable[[list[Tensor]], torch.optim.Optimizer] = ADAM,
) -> None:
    """Minimize ``loss(batch)``, where a batch is row numbers (batch_size,) in the order that the seed gives every arm.

    What else a loss wants (a group, an index, a schedule) it finds under these numbers.
    """
    stepper = optimizer(list(parameters))
    for epoch in range(epochs):
        for batch in batch_order(seed, epoch, rows, batch_size):
            stepper.zero_grad()
            loss(batch).backward()
            stepper.step()


def mlp(seed: int, *widths: int) -> nn.Sequential:
    """Linear layers of these widths with rectifiers between them; the first weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(widths):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *layers[:-1])
