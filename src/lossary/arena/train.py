"""Training many small runs of one objective: as one batched program, or one by one where that cannot be.

The runs differ in seed (split, first weights, batch order) and learning rate. :func:`train_batched` stacks their
parameters, traces one training step of the whole stack (forward under ``torch.func.vmap``, backward, both recorded once as
a graph of plain tensor operations) and replays it, so that Python and the dispatcher are paid once a step and not once a run.
:func:`train_one_by_one` is the ordinary loop; both give the same numbers up to rounding.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.optim.adamw import adamw

from lossary.arena.models import Trainee
from lossary.arena.splits import Split

State = dict[str, Tensor]
Array = NDArray[Any]
Progress = Callable[[int], None]
Watch = Callable[[Callable[[str], Tensor]], None]


@dataclass(frozen=True)
class Recipe:
    """How every run is trained, whatever its objective: AdamW whose rate falls to zero along a cosine."""

    epochs: int
    batch_size: int
    weight_decay: float = 0.01

    def rate_factor(self, step: int, steps: int) -> float:
        return 0.5 * (1 + math.cos(math.pi * step / steps))


@dataclass(frozen=True)
class Run:
    """One member of a stack."""

    split: int  # position in the list of splits
    learning_rate: float


@dataclass(frozen=True)
class Trained:
    """Stacked final weights, the mean training loss of each run and epoch, and which way they were trained."""

    template: Trainee
    state: State
    losses: Array  # (runs, epochs)
    batched: bool
    why_not_batched: str = ""

    def predict(self, features: Tensor, members: Sequence[int]) -> Tensor:
        """Linked predictions of some members on features (members, rows, width)."""
        chosen = list(members)
        return _predict(self.template, {name: value[chosen] for name, value in self.state.items()}, features)


@torch.no_grad()
def _predict(template: Trainee, state: State, features: Tensor) -> Tensor:
    def one(member: State, rows: Tensor) -> Tensor:
        prediction: Tensor = functional_call(template, member, (rows,))
        return prediction

    return vmap(one)(state, features)


def batch_order(seed: int, epoch: int, rows: int, batch_size: int) -> Tensor:
    """The batches of one epoch (batches, batch_size); a last incomplete one is left out."""
    generator = torch.Generator().manual_seed(1_000_003 * (seed + 1) + epoch)
    kept = rows // batch_size * batch_size
    return torch.randperm(rows, generator=generator)[:kept].view(-1, batch_size)


def train(
    trainees: Sequence[Trainee],
    splits: Sequence[Split],
    runs: Sequence[Run],
    recipe: Recipe,
    watch: Watch | None = None,
    progress: Progress | None = None,
    batched: bool = True,
) -> Trained:
    """Train run i as trainee i, batched if it can be.

    Args:
        watch: called after each epoch with a function that predicts on ``"validation"``, for all runs.
        progress: called with the number of finished epochs.
        batched: False asks for the ordinary loop.
    """
    if not batched:
        return train_one_by_one(trainees, splits, runs, recipe, watch, progress)
    try:
        program = _Program(trainees, splits, runs, recipe)
    except Exception as error:  # whatever keeps a step from being traced, the ordinary loop can still run it
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        return train_one_by_one(trainees, splits, runs, recipe, watch, progress, reason)
    return program.train(watch, progress)


class _Program:
    """A stack of runs, its traced training step, and its optimizer."""

    def __init__(self, trainees: Sequence[Trainee], splits: Sequence[Split], runs: Sequence[Run], recipe: Recipe):
        self.splits, self.runs, self.recipe = splits, runs, recipe
        self.rows = splits[0].train.features.shape[0]
        self.features = torch.cat([split.train.features for split in splits])
        self.target = torch.cat([split.train.target for split in splits])
        self.template = copy.deepcopy(trainees[0])
        stacked, self.buffers = stack_module_state(list(trainees))
        self.names = list(stacked)
        self.weights = [value.detach().clone(memory_format=torch.contiguous_format) for value in stacked.values()]
        rates = self.weights[0].new_tensor([run.learning_rate for run in runs])
        self.rates = [rates.view(-1, *[1] * (weight.ndim - 1)) for weight in self.weights]
        self.decays = [recipe.weight_decay if name.startswith("model.") else 0.0 for name in self.names]
        self.directions = [torch.zeros_like(weight) for weight in self.weights]
        self.moments = [torch.zeros_like(weight) for weight in self.weights], [torch.zeros_like(weight) for weight in self.weights]
        self.optimizer_steps = [torch.tensor(0.0) for _ in self.weights]
        first = self._batches(0)[0]
        self.step = make_fx(self._make_gradient())(self.weights, *self._gather(first))

    def _make_gradient(self) -> Callable[[list[Tensor], Tensor, Tensor], tuple[Tensor, list[Tensor]]]:
        def loss(member: State, buffers: State, rows: Tensor, labels: Tensor) -> Tensor:
            value: Tensor = functional_call(self.template, (member, buffers), (rows, labels))
            return value

        def gradient(weights: list[Tensor], features: Tensor, target: Tensor) -> tuple[Tensor, list[Tensor]]:
            leaves = [weight.detach().requires_grad_() for weight in weights]
            stack = dict(zip(self.names, leaves, strict=True))
            losses = vmap(loss, randomness="different")(stack, self.buffers, features, target)
            gradients = torch.autograd.grad(losses.sum(), leaves, materialize_grads=True)
            return losses.detach(), [gradient.contiguous() for gradient in gradients]

        return gradient

    def _batches(self, epoch: int) -> Tensor:
        """Row numbers (batches, runs * batch_size) into the splits laid end to end."""
        orders = [
            batch_order(split.seed, epoch, self.rows, self.recipe.batch_size) + place * self.rows
            for place, split in enumerate(self.splits)
        ]
        return torch.stack([orders[run.split] for run in self.runs], 1).flatten(1)

    def _gather(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        shape = (len(self.runs), -1)
        features = self.features.index_select(0, batch)
        return features.view(*shape, features.shape[1]), self.target.index_select(0, batch).view(shape)

    @torch.no_grad()
    def train(self, watch: Watch | None, progress: Progress | None) -> Trained:
        steps = self.rows // self.recipe.batch_size * self.recipe.epochs
        done = 0
        losses = np.zeros((len(self.runs), self.recipe.epochs))
        for epoch in range(self.recipe.epochs):
            total = self.weights[0].new_zeros(len(self.runs))
            batches = self._batches(epoch)
            for batch in batches:
                loss, gradients = self.step(self.weights, *self._gather(batch))
                factor = self.recipe.rate_factor(done, steps)
                self._move(gradients, factor)
                total += loss
                done += 1
            losses[:, epoch] = (total / len(batches)).numpy()
            if watch is not None:
                watch(lambda part: _predict(self.template, self._state(), stacked_features(self.splits, self.runs, part)))
            if progress is not None:
                progress(epoch + 1)
        return Trained(self.template, {name: value.clone() for name, value in self._state().items()}, losses, batched=True)

    def _move(self, gradients: list[Tensor], factor: float) -> None:
        # AdamW with rate 1 leaves its direction, the decay included; each run then moves along it by its own rate.
        for weight, direction, decay in zip(self.weights, self.directions, self.decays, strict=True):
            torch.mul(weight, -decay, out=direction)
        adamw(
            self.directions,
            gradients,
            *self.moments,
            [],
            self.optimizer_steps,
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=1.0,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )
        for weight, direction, rate in zip(self.weights, self.directions, self.rates, strict=True):
            weight.addcmul_(direction, rate, value=factor)

    def _state(self) -> State:
        return {**dict(zip(self.names, self.weights, strict=True)), **self.buffers}


def stacked_features(splits: Sequence[Split], runs: Sequence[Run], part: str) -> Tensor:
    """The features of a part, for each run (runs, rows, width)."""
    return torch.stack([getattr(splits[run.split], part).features for run in runs])


def train_one_by_one(
    trainees: Sequence[Trainee],
    splits: Sequence[Split],
    runs: Sequence[Run],
    recipe: Recipe,
    watch: Watch | None = None,
    progress: Progress | None = None,
    why: str = "asked for",
) -> Trained:
    """The ordinary PyTorch loop over runs: for what cannot be batched, and to measure the batched program against.

    All runs take an epoch in turn, so that ``watch`` sees them side by side as the batched program shows them.
    """
    trainees = [copy.deepcopy(trainee) for trainee in trainees]
    optimizers = []
    steps = splits[0].train.features.shape[0] // recipe.batch_size * recipe.epochs
    for trainee, run in zip(trainees, runs, strict=True):
        groups: list[dict[str, Any]] = [{"params": list(trainee.model.parameters()), "weight_decay": recipe.weight_decay}]
        if own := list(trainee.objective.parameters()):
            groups.append({"params": own, "weight_decay": 0.0})
        optimizers.append(torch.optim.AdamW(groups, lr=run.learning_rate))
    schedules = [torch.optim.lr_scheduler.LambdaLR(o, lambda step: recipe.rate_factor(step, steps)) for o in optimizers]
    losses = np.zeros((len(runs), recipe.epochs))

    def predict(part: str) -> Tensor:
        with torch.no_grad():
            return torch.stack([t(getattr(splits[r.split], part).features) for t, r in zip(trainees, runs, strict=True)])

    for epoch in range(recipe.epochs):
        for number, (trainee, run, optimizer, schedule) in enumerate(zip(trainees, runs, optimizers, schedules, strict=True)):
            split = splits[run.split]
            total = 0.0
            batches = batch_order(split.seed, epoch, split.train.features.shape[0], recipe.batch_size)
            for batch in batches:
                optimizer.zero_grad()
                loss = trainee(split.train.features[batch], split.train.target[batch])
                loss.backward()
                optimizer.step()
                schedule.step()
                total += loss.item()
            losses[number, epoch] = total / len(batches)
        if watch is not None:
            watch(predict)
        if progress is not None:
            progress(epoch + 1)
    parameters, buffers = stack_module_state(list(trainees))
    state = {name: value.detach() for name, value in {**parameters, **buffers}.items()}
    return Trained(trainees[0], state, losses, batched=False, why_not_batched=why)
