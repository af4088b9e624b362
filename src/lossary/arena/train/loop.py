"""Training many small runs of one objective: as one batched program, or one by one where that cannot be.

The runs differ in seed (split, first weights, batch order) and learning rate. The batched program stacks their parameters,
records one training step of the whole stack (forward under ``torch.func.vmap``, backward: a list of plain tensor operations) and
repeats it, so that Python and the dispatcher are paid once a step and not once a run.
The ordinary loop gives the same numbers up to rounding.
"""

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from lossary.arena.data.splits import Split
from lossary.arena.plan.recipe import Recipe
from lossary.arena.train.models import Trainee
from lossary.arena.train.record import KEEPS_STATISTICS, Recording

State = dict[str, Tensor]
Array = NDArray[Any]
Progress = Callable[[int], None]
Predict = Callable[[str], Tensor]
Judge = Callable[[Predict], Array]
RECORDING = 24  # how many steps of the ordinary loop take as long as recording one


@dataclass(frozen=True)
class Run:
    """One member of a stack."""

    split: int  # position in the list of splits
    learning_rate: float


@dataclass(frozen=True)
class Trained:
    """Stacked weights to keep, and what was seen on the way: training loss by epoch, goodness by checkpoint."""

    template: Trainee
    state: State
    losses: Array  # (runs, epochs), NaN where none was trained
    curve: Array  # (runs, checkpoints) what the judge said
    curve_epochs: Array  # (checkpoints,)
    best: Array  # (runs,) the checkpoint whose weights were kept
    batched: bool
    seconds_per_step: float  # of one run
    why_not_batched: str = ""  # what kept a program from being recorded, if anything did

    def predict(self, features: Tensor, members: Sequence[int]) -> Tensor:
        """Linked predictions of some members on features (members, rows, ...)."""
        chosen = list(members)
        judged = copy.deepcopy(self.template).eval()
        return _predict(judged, {name: value[chosen] for name, value in self.state.items()}, features, self.batched)


@torch.no_grad()
def _predict(judged: Trainee, state: State, features: Tensor, batched: bool) -> Tensor:
    def one(member: State, rows: Tensor) -> Tensor:
        prediction: Tensor = functional_call(judged, member, (rows,))
        return prediction

    if batched:
        return vmap(one)(state, features)
    return torch.stack([one({name: value[i] for name, value in state.items()}, rows) for i, rows in enumerate(features)])


def stacked_features(splits: Sequence[Split], runs: Sequence[Run], part: str) -> Tensor:
    """The features of a part, for each run (runs, rows, ...)."""
    return torch.stack([getattr(splits[run.split], part).features for run in runs])


class _Keeper:
    """Follows validation along the runs, keeps what is to be kept, and says when nothing can improve any more.

    A run that was out of patience once is never looked at again, so that what it gives does not depend on how long the
    others of its stack go on.
    """

    def __init__(self, recipe: Recipe, runs: int):
        self.recipe = recipe
        self.curve: list[Array] = []
        self.epochs: list[int] = []
        self.best_value = np.full(runs, -np.inf)
        self.best_epoch = np.zeros(runs, dtype=np.int64)
        self.best_place = np.zeros(runs, dtype=np.int64)
        self.ended = np.zeros(runs, dtype=bool)
        self.kept: State = {}

    def look(self, epoch: int, values: Array, stack: "_Program | _Loop") -> bool:
        """Take note of a checkpoint; True if training can end."""
        self.curve.append(values)
        self.epochs.append(epoch)
        if not self.recipe.patience:
            self.best_place[:] = len(self.epochs) - 1
            return False
        better = np.where(np.isfinite(values), values, -np.inf) > self.best_value
        better &= ~self.ended
        self.best_value[better] = values[better]
        self.best_epoch[better] = epoch
        self.best_place[better] = len(self.epochs) - 1
        state = stack.state()
        if not self.kept:
            self.kept = {name: value.clone() for name, value in state.items()}
        chosen = torch.from_numpy(better)
        for name, value in state.items():
            self.kept[name][chosen] = value[chosen]
        self.ended |= epoch - self.best_epoch >= self.recipe.patience
        return bool(self.ended.all())

    def weights(self, state: State) -> State:
        return self.kept or {name: value.detach().clone() for name, value in state.items()}


def train(
    trainees: Sequence[Trainee],
    splits: Sequence[Split],
    runs: Sequence[Run],
    recipe: Recipe,
    judge: Judge | None = None,
    progress: Progress | None = None,
    batched: bool = True,
) -> Trained:
    """Train run i as trainee i, batched if it can be.

    Args:
        judge: given a function that predicts on ``"validation"`` for all runs, says how good each is; greater is better.
        progress: called with the number of finished epochs.
        batched: False asks for the ordinary loop.
    """
    why = ""  # asked for, or so little to do that recording would only delay it
    stack: _Program | _Loop
    steps = len(splits[0].train.target) // recipe.batch_size * recipe.epochs
    batched = batched and (len(runs) - 1) * steps >= RECORDING
    wanted = [*trainees[0].objective.requires, *(["the end of epochs"] if hasattr(trainees[0].objective, "epoch_end") else [])]
    if batched and wanted:
        batched, why = False, f"the objective follows {' and '.join(wanted)}"
    if batched:
        try:
            with torch.random.fork_rng(devices=[]):
                stack = _Program(trainees, splits, runs, recipe)
        except Exception as error:  # whatever keeps a step from being traced, the ordinary loop can still run it
            batched, why = False, f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    if not batched:
        stack = _Loop(trainees, splits, runs, recipe)
    keeper = _Keeper(recipe, len(runs))
    losses = np.full((len(runs), recipe.epochs), np.nan)
    seconds, steps = 0.0, 0
    for epoch in range(recipe.epochs):
        started = time.perf_counter()
        losses[:, epoch] = stack.train_epoch(epoch)
        seconds += time.perf_counter() - started
        steps += stack.steps_per_epoch
        ended = False
        if recipe.looks_at(epoch + 1):
            values = judge(stack.predict) if judge is not None else np.zeros(len(runs))
            ended = keeper.look(epoch + 1, values, stack)
        if progress is not None:
            progress(epoch + 1)
        if ended:
            break
    return Trained(
        template=stack.template,
        state=keeper.weights(stack.state()),
        losses=losses,
        curve=np.stack(keeper.curve, 1),
        curve_epochs=np.array(keeper.epochs),
        best=keeper.best_place,
        batched=batched,
        seconds_per_step=seconds / max(steps * len(runs), 1),
        why_not_batched=why,
    )


class _Program:
    """A stack of runs, its recorded training step, and its optimizer."""

    def __init__(self, trainees: Sequence[Trainee], splits: Sequence[Split], runs: Sequence[Run], recipe: Recipe):
        # Runs of one rate lie side by side, so that one call of AdamW moves all of them.
        order = sorted(range(len(runs)), key=lambda place: runs[place].learning_rate)
        self.places = torch.tensor(order).argsort()  # of the runs as they were given
        self.splits, self.runs, self.recipe = splits, [runs[place] for place in order], recipe
        self.rows = splits[0].train.features.shape[0]
        self.steps_per_epoch = self.rows // recipe.batch_size
        self.done = 0
        self.looked_at: dict[str, Tensor] = {}
        self.features = torch.cat([split.train.features for split in splits])
        self.target = torch.cat([split.train.target for split in splits])
        self._check_alike(trainees)
        self.template = copy.deepcopy(trainees[0]).train()
        self.judged = copy.deepcopy(self.template).eval()
        stacked, self.buffers = stack_module_state([trainees[place] for place in order])
        self.names = list(stacked)
        self.weights = [value.detach() for value in stacked.values()]
        self.step = self._record()
        self.loss, *gradients = self.step.outputs
        self.count = torch.tensor(0.0)  # of the optimizer's steps
        self.movements = self._movements(gradients)

    def _check_alike(self, trainees: Sequence[Trainee]) -> None:
        """One program has one value of everything that is no tensor."""
        first, *others = (
            {name: value for name, value in trainee.objective.hyperparameters().items() if not isinstance(value, Tensor)}
            for trainee in trainees
        )
        if any(other != first for other in others):
            raise ValueError("the runs have objectives with different hyper-parameters")

    def _record(self) -> Recording:
        """One step, of which a repetition on another batch was seen to give what the step itself gives there."""
        batches = self._batches(0)
        self.batch = tuple(part.index_select(0, batches[-1]) for part in (self.features, self.target))
        inputs = [part.unflatten(0, (len(self.runs), -1)) for part in self.batch]
        before = [value.clone() for value in (*self.weights, *self.buffers.values())]
        torch.manual_seed(0)
        expected = self._gradient(self.weights, *inputs)
        if any(not torch.equal(value, old) for value, old in zip((*self.weights, *self.buffers.values()), before, strict=True)):
            raise ValueError(KEEPS_STATISTICS)  # also one that does so in its first step only, and so not in the one recorded
        # Weights take the layout in which their gradients come, so that no step has to turn one round.
        self.orders = [sorted(range(like.ndim), key=lambda dim, like=like: -like.stride(dim)) for like in expected[1:]]  # type: ignore[misc]
        self.weights = [torch.empty_like(like).copy_(weight) for like, weight in zip(expected[1:], self.weights, strict=True)]
        self._fill(batches[0])
        step = Recording(lambda: self._in_memory_order(self._gradient(self.weights, *inputs)), [*self.weights, *inputs])
        self._fill(batches[-1])
        torch.manual_seed(0)
        step.repeat()
        rounding = 1e-6 * max(float(gradient.abs().max()) for gradient in expected[1:])  # where a gradient should be 0
        for found, wanted in zip(step.outputs, self._in_memory_order(expected), strict=True):
            if not torch.allclose(found, wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()) + rounding, equal_nan=True):
                raise ValueError("a recorded step gives something else than the step itself")
        return step

    def _gradient(self, weights: list[Tensor], features: Tensor, target: Tensor) -> list[Tensor]:
        """The loss of each run, and the gradients of their sum."""

        def loss(member: State, buffers: State, rows: Tensor, labels: Tensor) -> Tensor:
            value: Tensor = functional_call(self.template, (member, buffers), (rows, labels))
            return value

        with torch.enable_grad():
            leaves = [weight.detach().requires_grad_() for weight in weights]
            losses = vmap(loss, randomness="different")(dict(zip(self.names, leaves, strict=True)), self.buffers, features, target)
            gradients = torch.autograd.grad(losses.sum(), leaves, materialize_grads=True)
        return [losses.detach(), *gradients]

    def _in_memory_order(self, found: list[Tensor]) -> list[Tensor]:
        """The losses as they are, and contiguous gradients."""
        return [found[0], *(gradient.permute(order).contiguous() for gradient, order in zip(found[1:], self.orders, strict=True))]

    def _movements(self, gradients: list[Tensor]) -> list[tuple[float, float, list[list[Tensor]]]]:
        """For each rate and weight decay the weights, gradients and moments that AdamW takes together."""
        weights = [weight.permute(order) for weight, order in zip(self.weights, self.orders, strict=True)]
        if any(not weight.is_contiguous() or order[0] for weight, order in zip(weights, self.orders, strict=True)):
            raise ValueError("a gradient comes in a layout that the optimizer cannot follow")
        moved = weights, gradients, [torch.zeros_like(x) for x in weights], [torch.zeros_like(x) for x in weights]
        rates = [run.learning_rate for run in self.runs]
        found = []
        for rate in sorted(set(rates)):
            members = slice(rates.index(rate), rates.index(rate) + rates.count(rate))
            for part, decay in (("model.", self.recipe.weight_decay), ("objective.", 0.0)):
                chosen = [place for place, name in enumerate(self.names) if name.startswith(part)]
                if chosen:
                    found.append((rate, decay, [[tensors[place][members] for place in chosen] for tensors in moved]))
        return found

    def _batches(self, epoch: int) -> Tensor:
        """Row numbers (batches, runs * batch_size) into the splits laid end to end."""
        orders = [self.recipe.batches(split, epoch) + place * self.rows for place, split in enumerate(self.splits)]
        return torch.stack([orders[run.split] for run in self.runs], 1).flatten(1)

    def _fill(self, batch: Tensor) -> None:
        for part, rows in zip((self.features, self.target), self.batch, strict=True):
            torch.index_select(part, 0, batch, out=rows)

    @torch.no_grad()
    def train_epoch(self, epoch: int) -> Array:
        total = torch.zeros_like(self.loss)
        for batch in self._batches(epoch):
            self._fill(batch)
            self.step.repeat()
            self._move(self.recipe.rate_factor(self.done, self.steps_per_epoch * self.recipe.epochs))
            self.done += 1
            total += self.loss
        return np.asarray((total[self.places] / self.steps_per_epoch).numpy())

    def _move(self, factor: float) -> None:
        self.count += 1
        for rate, decay, (weights, gradients, means, squares) in self.movements:
            torch._fused_adamw_(
                weights,
                gradients,
                means,
                squares,
                [],
                [self.count] * len(weights),
                lr=rate * factor,
                weight_decay=decay,
                beta1=0.9,
                beta2=0.999,
                eps=1e-8,
                amsgrad=False,
                maximize=False,
            )

    def state(self) -> State:
        current = {**dict(zip(self.names, self.weights, strict=True)), **self.buffers}
        return {name: value[self.places] for name, value in current.items()}

    def predict(self, part: str) -> Tensor:
        if part not in self.looked_at:
            self.looked_at[part] = stacked_features(self.splits, self.runs, part)
        current = {**dict(zip(self.names, self.weights, strict=True)), **self.buffers}
        return _predict(self.judged, current, self.looked_at[part], batched=True)[self.places]


class _Loop:
    """The ordinary PyTorch loop over runs: for what cannot be batched, and to measure the batched program against."""

    def __init__(self, trainees: Sequence[Trainee], splits: Sequence[Split], runs: Sequence[Run], recipe: Recipe):
        self.splits, self.runs, self.recipe = splits, runs, recipe
        self.rows = splits[0].train.features.shape[0]
        self.steps_per_epoch = self.rows // recipe.batch_size
        self.template = trainees[0]
        self.trainees = [copy.deepcopy(trainee) for trainee in trainees]
        steps = self.steps_per_epoch * recipe.epochs
        self.optimizers = []
        for trainee, run in zip(self.trainees, runs, strict=True):
            groups: list[dict[str, Any]] = [{"params": list(trainee.model.parameters()), "weight_decay": recipe.weight_decay}]
            if own := list(trainee.objective.parameters()):
                groups.append({"params": own, "weight_decay": 0.0})
            self.optimizers.append(torch.optim.AdamW(groups, lr=run.learning_rate))
        self.schedules = [
            torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: recipe.rate_factor(step, steps))
            for optimizer in self.optimizers
        ]

    def train_epoch(self, epoch: int) -> Array:
        losses = []
        for trainee, run, optimizer, schedule in zip(self.trainees, self.runs, self.optimizers, self.schedules, strict=True):
            split = self.splits[run.split]
            trainee.train()
            total = 0.0
            for step, batch in enumerate(self.recipe.batches(split, epoch)):
                optimizer.zero_grad()
                progress = (epoch + step / self.steps_per_epoch) / self.recipe.epochs
                loss = trainee(split.train.features[batch], split.train.target[batch], index=batch, progress=progress)
                loss.backward()
                optimizer.step()
                schedule.step()
                total += loss.item()
            end_epoch = getattr(trainee.objective, "epoch_end", None)
            if end_epoch is not None:
                end_epoch()
            losses.append(total / self.steps_per_epoch)
        return np.array(losses)

    def state(self) -> State:
        parameters, buffers = stack_module_state(list(self.trainees))
        return {name: value.detach() for name, value in {**parameters, **buffers}.items()}

    def predict(self, part: str) -> Tensor:
        with torch.no_grad():
            return torch.stack(
                [t.eval()(getattr(self.splits[r.split], part).features) for t, r in zip(self.trainees, self.runs, strict=True)]
            )
