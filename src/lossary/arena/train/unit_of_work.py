"""A unit of work: one objective with all its seeds and learning rates, from training to what is kept of it."""

import copy
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lossary._core.objective import Objective
from lossary.arena.data.dataset import Data
from lossary.arena.data.splits import Split, make_splits
from lossary.arena.plan.recipe import Recipe
from lossary.arena.tasks import Candidate, Metric, Task, build, outputs
from lossary.arena.train.loop import Predict, Run, Trained, train
from lossary.arena.train.memory import PeakMemory
from lossary.arena.train.models import Trainee, make_trainee
from lossary.errors import InvalidValueError

if TYPE_CHECKING:  # what a protocol says counts by its values, so that its code is none that a unit of work depends on
    from lossary.arena.plan.protocol import Protocol

Array = NDArray[Any]


@dataclass(frozen=True)
class Unit:
    """The outcome of one objective. Axes: s seeds, r learning rates, e epochs, k checkpoints."""

    candidate: Candidate
    validation: Array  # (s, r) the deciding metric on validation data, of the weights that were kept
    losses: Array  # (s, r, e) mean training loss; NaN after an early end
    curve: Array  # (s, r, k) the deciding metric on validation data along the run
    curve_epochs: Array  # (k,)
    chosen: Array  # (s,) which learning rate validation chose, or -1 if every run diverged
    test: dict[str, Array]  # metric -> (s,) of the chosen run; the only reading of the test part
    predictions: Array  # (s, rows, classes, labels or width) or (s, rows) or (s, lists, items): test predictions of the chosen run
    truth: Array  # (s, rows), (s, rows, labels) or (s, lists, items)
    batched: bool
    why_not_batched: str
    seconds: float
    seconds_per_step: float  # of one run
    peak_memory: int  # bytes that the tensors of one training step of one run hold at most, beyond weights and data
    reused: bool = False

    @property
    def diverged(self) -> Array:
        """(s, r) whether a run ended in something that is not a number."""
        return ~np.isfinite(self.validation)


def as_scores(predictions: Tensor, task: Task, family: str, split: Split) -> Array:
    """Linked predictions as metrics want them: (rows, classes or labels), or values in the target's own units."""
    values = predictions.double().numpy()
    if task.kind == "regression":
        return np.asarray(values * split.scale + split.center)
    return np.stack([1 - values, values], axis=1) if task.kind == "binary" and family == "multilabel" else values


def splits_of(data: Data, protocol: "Protocol") -> list[Split]:
    """One split of the data for each seed."""
    splits = make_splits(data, protocol.seeds, protocol.validation_share, protocol.test_share)
    rows, batch = len(splits[0].train.target), protocol.recipe.batch_size
    if rows < batch:  # the protocol cannot know what whole groups and classes leave for training
        left = "disjoint classes leave" if data.task.kind == "retrieval" else "whole groups leave"
        raise InvalidValueError(f"batch_size must be at most the {rows} training rows that {left}, got {batch}")
    return splits


def run_unit(
    protocol: "Protocol", candidate: Candidate, splits: Sequence[Split], progress: Callable[[int], None] | None = None
) -> Unit:
    """Train every run of one objective, choose by validation, read the test part once."""
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)  # small matrices: a second thread costs more than it brings, and changes the last digits
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # for models that draw, as dropout does
            return _run_unit(protocol, candidate, splits, progress)
    finally:
        torch.set_num_threads(threads)


def _run_unit(protocol: "Protocol", candidate: Candidate, splits: Sequence[Split], progress: Callable[[int], None] | None) -> Unit:
    started = time.perf_counter()
    task, recipe, vmap = protocol.task, protocol.recipe, candidate.spec.vmap
    stacks = [_Stack(protocol, candidate, splits, own, trials) for own, trials in _alike(protocol.trials(candidate))]
    trained: list[Trained] = []
    memory = 0
    for number, stack in enumerate(stacks):
        trainees = stack.trainees()
        memory = max(memory, _step_memory(trainees[0], splits[0], recipe))
        tell = functools.partial(_tell, progress, number * recipe.epochs, len(stacks))
        trained.append(train(trainees, splits, stack.runs, recipe, stack.judge, tell, batched=vmap))
    course = _course(stacks, trained)
    chosen = choose(course.validation, task.metric(protocol.metric))
    scores = []
    for seed, split in enumerate(splits):
        trial = max(int(chosen[seed]), 0)
        number = next(number for number, stack in enumerate(stacks) if trial in stack.trials)
        predicted = trained[number].predict(split.test.features.unsqueeze(0), [stacks[number].member(seed, trial)])[0]
        scores.append(as_scores(predicted, task, candidate.spec.family, split))
    reasons = [stack.why_not_batched for stack in trained] if vmap else ["the objective cannot be stacked"]
    return Unit(
        candidate=candidate,
        validation=course.validation,
        losses=course.losses,
        curve=course.curve,
        curve_epochs=course.curve_epochs,
        chosen=chosen,
        test={metric.name: _test_values(metric, candidate.spec.link, splits, scores, chosen) for metric in task.metrics},
        predictions=np.stack(scores).astype(np.float32),
        truth=np.stack([split.test.truth for split in splits]),
        batched=all(stack.batched for stack in trained),
        why_not_batched=next(filter(None, reasons), ""),
        seconds=time.perf_counter() - started,
        seconds_per_step=float(np.mean([stack.seconds_per_step for stack in trained])),
        peak_memory=memory,
    )


def _tell(progress: Callable[[int], None] | None, before: int, stacks: int, epoch: int) -> None:
    """Report an epoch of one stack as a part of the epochs of all of them."""
    if progress is not None:
        progress((before + epoch) // stacks)


@dataclass(frozen=True)
class _Stack:
    """Runs that one program trains together: all seeds, in the trials that share the objective's own hyper-parameters."""

    protocol: "Protocol"
    candidate: Candidate
    splits: Sequence[Split]
    own: Mapping[str, float]
    trials: Sequence[int]

    @property
    def runs(self) -> list[Run]:
        return [Run(seed, self.protocol.learning_rates[trial]) for seed in range(len(self.splits)) for trial in self.trials]

    def member(self, seed: int, trial: int) -> int:
        """The position of a run in the stack."""
        return seed * len(self.trials) + self.trials.index(trial)

    def trainees(self) -> list[Trainee]:
        return [self._trainee(self.splits[run.split]) for run in self.runs]

    def _trainee(self, split: Split) -> Trainee:
        spec, task, hidden = self.candidate.spec, self.protocol.task, self.protocol.hidden
        return make_trainee(
            self.protocol.model,
            split.shape,
            outputs(spec.family, task, hidden),
            hidden,
            split.seed,
            functools.partial(_build, self.candidate, self.own, task, split),
            spec.family,
            spec.consumes == "embedding",
            task.kind,
        )

    def judge(self, predict: Predict) -> Array:
        """The deciding metric on validation data for each run (runs,), negated where less is better."""
        task = self.protocol.task
        metric, predictions = task.metric(self.protocol.metric), predict("validation")
        values = []
        for prediction, run in zip(predictions, self.runs, strict=True):
            split = self.splits[run.split]
            values.append(metric(split.validation.truth, as_scores(prediction, task, self.candidate.spec.family, split)))
        return np.array(values) if metric.greater_is_better else -np.array(values)


@dataclass(frozen=True)
class _Course:
    """Validation and training loss of all runs; the axes are those of :class:`Unit`."""

    validation: Array
    losses: Array
    curve: Array
    curve_epochs: Array


def _course(stacks: Sequence[_Stack], trained: Sequence[Trained]) -> _Course:
    """Put the runs of all stacks in order of seeds and trials."""
    protocol, seeds = stacks[0].protocol, range(len(stacks[0].splits))
    recipe, sign = protocol.recipe, 1 if protocol.task.metric(protocol.metric).greater_is_better else -1
    checkpoints = [epoch for epoch in range(1, recipe.epochs + 1) if recipe.looks_at(epoch)]
    axes = len(seeds), len(protocol.learning_rates)
    validation, losses = np.full(axes, np.nan), np.full((*axes, recipe.epochs), np.nan)
    curve = np.full((*axes, len(checkpoints)), np.nan)
    for stack, found in zip(stacks, trained, strict=True):
        for seed, trial in ((seed, trial) for seed in seeds for trial in stack.trials):
            member = stack.member(seed, trial)
            seen = sign * found.curve[member]
            curve[seed, trial, : len(seen)] = seen
            validation[seed, trial] = seen[found.best[member]]
            losses[seed, trial] = found.losses[member]
    longest = int((~np.isnan(losses)).any((0, 1)).sum())
    kept = [k for k, epoch in enumerate(checkpoints) if epoch <= longest]
    return _Course(validation, losses, curve[:, :, kept], np.array(checkpoints)[kept])


def _build(candidate: Candidate, own: Mapping[str, float], task: Task, split: Split, width: int) -> Objective:
    """The objective as it is made for one training part."""
    target, classes = split.train.target, outputs(candidate.spec.family, task)
    if task.kind == "retrieval":  # those of the training part, which are all that an objective ever sees
        classes = int(target.max()) + 1
    by_number = not target.is_floating_point() and (candidate.spec.family == "classification" or task.kind == "retrieval")
    counts = torch.bincount(target, minlength=classes) if by_number else target.sum(0).reshape(-1)
    return build(
        candidate, own, {"num_classes": classes, "embedding_dim": width, "num_samples": len(target), "class_counts": counts}
    )


def _alike(trials: Sequence[dict[str, float]]) -> list[tuple[dict[str, float], list[int]]]:
    """Trials that share the objective's own hyper-parameters: each set of these, with the numbers of its trials."""
    sets: list[dict[str, float]] = []
    for own in trials:
        if own not in sets:
            sets.append(own)
    return [(own, [number for number, other in enumerate(trials) if other == own]) for own in sets]


def _step_memory(trainee: Trainee, split: Split, recipe: Recipe) -> int:
    """The most bytes that the tensors of one training step hold at once, gradients included."""
    trained = copy.deepcopy(trainee).train()
    rows = recipe.batches(split, 0)[0]
    features, target = split.train.features[rows], split.train.target[rows]
    memory = PeakMemory()
    with torch.random.fork_rng(devices=[]), memory:
        trained(features, target, index=rows).backward()
    return memory.highest


def choose(validation: Array, metric: Metric) -> Array:
    """For each seed the learning rate with the best validation value; ties go to the smaller rate, divergence never wins."""
    goodness = np.where(np.isfinite(validation), validation if metric.greater_is_better else -validation, -np.inf)
    best = goodness.argmax(axis=1)  # the first of equals, and the rates ascend
    return np.where(np.isfinite(goodness.max(axis=1)), best, -1)


def _test_values(metric: Metric, link: str, splits: Sequence[Split], scores: Sequence[Array], chosen: Array) -> Array:
    """One metric on the test part for each seed (seeds,), NaN where every run diverged or the metric needs probabilities."""
    if metric.needs_probabilities and link != "probabilities":
        return np.full(len(splits), np.nan)
    return np.array([metric(split.test.truth, scores[seed]) if chosen[seed] >= 0 else np.nan for seed, split in enumerate(splits)])


_ARRAYS = ("validation", "losses", "curve", "curve_epochs", "chosen", "predictions", "truth")
_FACTS = ("batched", "why_not_batched", "seconds", "seconds_per_step", "peak_memory")


def pack(unit: Unit) -> tuple[dict[str, Any], dict[str, Array]]:
    """A unit as the store keeps it."""
    tests = {f"test/{name}": values for name, values in unit.test.items()}
    return {name: getattr(unit, name) for name in _FACTS}, {name: getattr(unit, name) for name in _ARRAYS} | tests


def unpack(candidate: Candidate, record: dict[str, Any], arrays: dict[str, Array]) -> Unit:
    test = {name.removeprefix("test/"): values for name, values in arrays.items() if name.startswith("test/")}
    values: dict[str, Any] = {**record, **{name: arrays[name] for name in _ARRAYS}}
    return Unit(candidate=candidate, test=test, reused=True, **values)
