"""Doing the work of a protocol, unit by unit. A unit is one objective with all its seeds and learning rates."""

import functools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lossary._registry import create
from lossary.arena.data import Data
from lossary.arena.models import make_trainee
from lossary.arena.protocol import Protocol
from lossary.arena.splits import Split, make_splits
from lossary.arena.store import Store
from lossary.arena.tasks import Candidate, Metric, Task, outputs
from lossary.arena.train import Run, stacked_features, train

Array = NDArray[Any]
CHECKPOINTS = 12  # how often the validation metric is taken along a run, for the learning curves


@dataclass(frozen=True)
class Unit:
    """The outcome of one objective. Axes: s seeds, r learning rates, e epochs, k checkpoints."""

    candidate: Candidate
    validation: Array  # (s, r) the deciding metric on validation data at the end
    losses: Array  # (s, r, e) mean training loss
    curve: Array  # (s, r, k) the deciding metric on validation data along the run
    curve_epochs: Array  # (k,)
    chosen: Array  # (s,) which learning rate validation chose, or -1 if every run diverged
    test: dict[str, Array]  # metric -> (s,) of the chosen run; the only reading of the test part
    predictions: Array  # (s, rows, classes) or (s, rows): linked test predictions of the chosen run
    truth: Array  # (s, rows)
    batched: bool
    why_not_batched: str
    seconds: float
    reused: bool = False

    @property
    def diverged(self) -> Array:
        """(s, r) whether a run ended in something that is not a number."""
        return ~np.isfinite(self.validation)


def as_scores(predictions: Tensor, task: Task, family: str, split: Split) -> Array:
    """Linked predictions as metrics want them: (rows, classes), or values in the target's own units."""
    values = predictions.double().numpy()
    if task.kind == "regression":
        return np.asarray(values * split.scale + split.center)
    return np.stack([1 - values, values], axis=1) if family == "multilabel" else values


def run_unit(
    protocol: Protocol, candidate: Candidate, splits: Sequence[Split], progress: Callable[[int], None] | None = None
) -> Unit:
    """Train every run of one objective, choose by validation, read the test part once."""
    started = time.perf_counter()
    spec, task = candidate.spec, protocol.task
    metric = task.metric(protocol.metric)
    runs = [Run(place, rate) for place in range(len(splits)) for rate in protocol.learning_rates]
    width = outputs(spec.family, task)
    trainees = [
        make_trainee(
            protocol.model,
            splits[0].width,
            width,
            protocol.hidden,
            splits[run.split].seed,
            create(candidate.objective, **candidate.parameters),
            spec.family,
        )
        for run in runs
    ]
    every = math.ceil(protocol.recipe.epochs / CHECKPOINTS)
    curve: list[list[float]] = []
    curve_epochs: list[int] = []
    epoch = 0

    def validate(predictions: Tensor) -> list[float]:
        return [
            metric(splits[run.split].validation.truth, as_scores(predictions[i], task, spec.family, splits[run.split]))
            for i, run in enumerate(runs)
        ]

    def watch(predict: Callable[[str], Tensor]) -> None:
        nonlocal epoch
        epoch += 1
        if epoch % every == 0 or epoch == protocol.recipe.epochs:
            curve.append(validate(predict("validation")))
            curve_epochs.append(epoch)

    trained = train(trainees, splits, runs, protocol.recipe, watch, progress, batched=spec.vmap)
    shape = (len(splits), len(protocol.learning_rates))
    curves = np.array(curve).T.reshape(*shape, -1)
    validation = curves[:, :, -1]
    chosen = choose(validation, metric)
    members = [place * shape[1] + max(int(rate), 0) for place, rate in enumerate(chosen)]
    read = trained.predict(stacked_features(splits, [runs[m] for m in members], "test"), members)
    scores = [as_scores(read[i], task, spec.family, split) for i, split in enumerate(splits)]
    test = {
        judge.name: np.array([_read(judge, spec.link, split.test.truth, scores[i], chosen[i]) for i, split in enumerate(splits)])
        for judge in task.metrics
    }
    return Unit(
        candidate=candidate,
        validation=validation,
        losses=trained.losses.reshape(*shape, -1),
        curve=curves,
        curve_epochs=np.array(curve_epochs),
        chosen=chosen,
        test=test,
        predictions=np.stack(scores).astype(np.float32),
        truth=np.stack([split.test.truth for split in splits]),
        batched=trained.batched,
        why_not_batched=trained.why_not_batched,
        seconds=time.perf_counter() - started,
    )


def choose(validation: Array, metric: Metric) -> Array:
    """For each seed the learning rate with the best validation value; ties go to the smaller rate, divergence never wins."""
    goodness = np.where(np.isfinite(validation), validation if metric.greater_is_better else -validation, -np.inf)
    best = goodness.argmax(axis=1)  # the first of equals, and the rates ascend
    return np.where(np.isfinite(goodness.max(axis=1)), best, -1)


def _read(judge: Metric, link: str, truth: Array, scores: Array, chosen: int) -> float:
    if chosen < 0 or (judge.needs_probabilities and link != "probabilities"):
        return float("nan")
    return judge(truth, scores)


@dataclass(frozen=True)
class Event:
    """Something a watcher may want to show: a unit was taken from the store, ended an epoch, or is finished."""

    kind: Literal["reused", "epoch", "done"]
    candidate: Candidate
    unit: int  # from 1
    units: int
    epoch: int
    epochs: int


def run_protocol(data: Data, protocol: Protocol, store: Store, tell: Callable[[Event], None] | None = None) -> list[Unit]:
    """All units of a protocol, each taken from the store if it is there and put there as soon as it is finished."""
    threads = torch.get_num_threads()
    splits: list[Split] = []
    units = []
    try:
        torch.set_num_threads(1)  # small matrices: a second thread costs more than it brings
        for number, candidate in enumerate(protocol.candidates, start=1):

            def say(
                kind: Literal["reused", "epoch", "done"], epoch: int, number: int = number, candidate: Candidate = candidate
            ) -> None:
                if tell is not None:
                    tell(Event(kind, candidate, number, len(protocol.candidates), epoch, protocol.recipe.epochs))

            key = protocol.unit_key(candidate)
            kept = store.get(key)
            if kept is not None:
                units.append(_unpack(candidate, *kept))
                say("reused", protocol.recipe.epochs)
                continue
            splits = splits or make_splits(data, protocol.seeds, protocol.validation_share, protocol.test_share)
            unit = run_unit(protocol, candidate, splits, functools.partial(say, "epoch"))
            store.put(key, *_pack(unit))
            units.append(unit)
            say("done", protocol.recipe.epochs)
    finally:
        torch.set_num_threads(threads)
    return units


_ARRAYS = ("validation", "losses", "curve", "curve_epochs", "chosen", "predictions", "truth")


def _pack(unit: Unit) -> tuple[dict[str, Any], dict[str, Array]]:
    record = {"batched": unit.batched, "why_not_batched": unit.why_not_batched, "seconds": unit.seconds}
    tests = {f"test/{name}": values for name, values in unit.test.items()}
    return record, {name: getattr(unit, name) for name in _ARRAYS} | tests


def _unpack(candidate: Candidate, record: dict[str, Any], arrays: dict[str, Array]) -> Unit:
    test = {name.removeprefix("test/"): values for name, values in arrays.items() if name.startswith("test/")}
    values: dict[str, Any] = {**record, **{name: arrays[name] for name in _ARRAYS}}
    return Unit(candidate=candidate, test=test, reused=True, **values)
