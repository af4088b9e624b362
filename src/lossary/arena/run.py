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

from lossary._objective import Objective
from lossary.arena._memory import PeakMemory
from lossary.arena.data import Data
from lossary.arena.models import Trainee, make_trainee
from lossary.arena.splits import Split, make_splits
from lossary.arena.tasks import Candidate, Metric, Task, build, outputs
from lossary.arena.train import Predict, Recipe, Run, Trained, train
from lossary.errors import InvalidValueError

if TYPE_CHECKING:  # what a protocol says counts by its values, so that its code is none that a unit of work depends on
    from lossary.arena.protocol import Protocol

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
    spec, task = candidate.spec, protocol.task
    metric = task.metric(protocol.metric)
    axes = (len(splits), len(protocol.learning_rates))
    stacks = _stacks(protocol.trials(candidate))
    trained: list[Trained] = []
    memory = 0
    for number, (own, trials) in enumerate(stacks):
        runs = [Run(place, protocol.learning_rates[trial]) for place in range(len(splits)) for trial in trials]
        trainees = [
            make_trainee(
                protocol.model,
                splits[run.split].shape,
                outputs(spec.family, task, protocol.hidden),
                protocol.hidden,
                splits[run.split].seed,
                functools.partial(_build, candidate, own, task, splits[run.split]),
                spec.family,
                spec.consumes == "embedding",
                task.kind,
            )
            for run in runs
        ]

        memory = max(memory, _step_memory(trainees[0], splits[runs[0].split], protocol.recipe))

        def judge(predict: Predict, runs: list[Run] = runs) -> Array:
            predictions = predict("validation")
            values = [
                metric(splits[run.split].validation.truth, as_scores(predictions[i], task, spec.family, splits[run.split]))
                for i, run in enumerate(runs)
            ]
            return np.array(values) if metric.greater_is_better else -np.array(values)

        def tell(epoch: int, number: int = number) -> None:
            if progress is not None:
                progress((number * protocol.recipe.epochs + epoch) // len(stacks))

        trained.append(train(trainees, splits, runs, protocol.recipe, judge, tell, batched=spec.vmap))
    checkpoints = [epoch for epoch in range(1, protocol.recipe.epochs + 1) if protocol.recipe.looks_at(epoch)]
    curve, validation = np.full((*axes, len(checkpoints)), np.nan), np.full(axes, np.nan)
    losses = np.full((*axes, protocol.recipe.epochs), np.nan)
    where: dict[tuple[int, int], tuple[Trained, int]] = {}
    for (_, trials), stack in zip(stacks, trained, strict=True):
        for member, (place, trial) in enumerate((place, trial) for place in range(axes[0]) for trial in trials):
            seen = stack.curve[member] if metric.greater_is_better else -stack.curve[member]
            curve[place, trial, : len(seen)] = seen
            validation[place, trial] = seen[stack.best[member]]
            losses[place, trial] = stack.losses[member]
            where[place, trial] = stack, member
    longest = int((~np.isnan(losses)).any((0, 1)).sum())
    kept = [k for k, epoch in enumerate(checkpoints) if epoch <= longest]
    chosen = choose(validation, metric)
    read = []
    for place, split in enumerate(splits):
        stack, member = where[place, max(int(chosen[place]), 0)]
        read.append(stack.predict(split.test.features.unsqueeze(0), [member])[0])
    scores = [as_scores(read[i], task, spec.family, split) for i, split in enumerate(splits)]
    test = {
        judge_.name: np.array([_read(judge_, spec.link, split.test.truth, scores[i], chosen[i]) for i, split in enumerate(splits)])
        for judge_ in task.metrics
    }
    reasons = [stack.why_not_batched for stack in trained] if spec.vmap else ["the objective cannot be stacked"]
    return Unit(
        candidate=candidate,
        validation=validation,
        losses=losses,
        curve=curve[:, :, kept],
        curve_epochs=np.array(checkpoints)[kept],
        chosen=chosen,
        test=test,
        predictions=np.stack(scores).astype(np.float32),
        truth=np.stack([split.test.truth for split in splits]),
        batched=all(stack.batched for stack in trained),
        why_not_batched=next(filter(None, reasons), ""),
        seconds=time.perf_counter() - started,
        seconds_per_step=float(np.mean([stack.seconds_per_step for stack in trained])),
        peak_memory=memory,
    )


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


def _stacks(trials: Sequence[dict[str, float]]) -> list[tuple[dict[str, float], list[int]]]:
    """Trials that share the objective's own hyper-parameters, which one program can train together."""
    stacks: list[tuple[dict[str, float], list[int]]] = []
    for number, own in enumerate(trials):
        for known, members in stacks:
            if known == own:
                members.append(number)
                break
        else:
            stacks.append((own, [number]))
    return stacks


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


def _read(judge: Metric, link: str, truth: Array, scores: Array, chosen: int) -> float:
    if chosen < 0 or (judge.needs_probabilities and link != "probabilities"):
        return float("nan")
    return judge(truth, scores)


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
