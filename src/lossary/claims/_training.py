"""An experiment that trains arms by the arena: the same data, splits, first weights and batches for each, paired by seed."""

import functools
import hashlib
import inspect
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossary.arena.code import code_of
from lossary.arena.data.splits import Split
from lossary.arena.plan.protocol import Protocol
from lossary.arena.plan.recipe import Recipe
from lossary.arena.tasks import Candidate, Task, check_candidate
from lossary.arena.train.store import Store
from lossary.arena.train.unit_of_work import Unit, pack, run_unit, unpack
from lossary.claims._claim import Measured, Tell
from lossary.claims._quantities import NEED_PROBABILITIES, QUANTITIES, Quantity
from lossary.claims._rules import Rule, Values
from lossary.claims._sources import TEST_SHARE, VALIDATION_SHARE, Generated, Real
from lossary.claims._steps import Step
from lossary.errors import InvalidValueError

Array = NDArray[Any]
Arms = Sequence[str] | Mapping[str, str | Sequence[str]]


@dataclass(frozen=True)
class Training:
    """Arms trained by the arena's own program with AdamW along a cosine, and measured on test data.

    Args:
        title: what is done, in a few words.
        data: :class:`Real` or :class:`Generated`.
        arms: objectives as ``lossary compare`` takes them (``"focal(gamma=3.0)"``), or names for them. An arm of several
            objectives is, for each seed, the one of them that validation prefers.
        rules: what the numbers are held against. A quantity is a metric of the arena, a name in ``QUANTITIES`` or in ``measures``.
        epochs, batch_size: how long and in what steps.
        learning_rates: one, or a short grid of which validation chooses for each seed and objective.
        train: steps that change the training part only.
        test: steps that change the test part only.
        measures: further quantities, by name.
        select: the metric by which validation chooses; by default that of the task.
        seeds: repetitions.
        model, hidden, weight_decay: as in a comparison.
    """

    title: str
    data: Real | Generated
    arms: Arms
    rules: tuple[Rule, ...]
    epochs: int
    batch_size: int
    learning_rates: tuple[float, ...] = (3e-3,)
    train: tuple[Step, ...] = ()
    test: tuple[Step, ...] = ()
    measures: Mapping[str, Quantity] = field(default_factory=dict)
    select: str | None = None
    seeds: int = 20
    model: str = "mlp"
    hidden: int = 128
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        for rule in self.rules:
            for name in (rule.arm, rule.than):
                if isinstance(name, str) and name not in self.named_arms:
                    raise InvalidValueError(f"{self.title}: a rule names the arm {name!r} (there are {', '.join(self.named_arms)})")

    @property
    def named_arms(self) -> dict[str, tuple[Candidate, ...]]:
        named = self.arms if isinstance(self.arms, Mapping) else {arm: arm for arm in self.arms}
        return {
            name: tuple(Candidate.parse(one) for one in ([arm] if isinstance(arm, str) else arm)) for name, arm in named.items()
        }

    @property
    def ratio(self) -> float:
        return self.data.ratio

    @property
    def least(self) -> float:
        """One row of the test part: no reading is finer."""
        return 1 / round(TEST_SHARE * self.data.data.rows)

    @property
    def described(self) -> str:
        rate = " or ".join(f"{rate:g}" for rate in self.learning_rates)
        model = {"mlp": f"one hidden layer of {self.hidden}", "linear": "a linear model"}.get(self.model, self.model)
        steps = [f"{part} part: {' and '.join(map(_words, steps))}" for part, steps in self._steps if steps]
        own = {name: arm for name, arm in self.named_arms.items() if [one.label for one in arm] != [name]}
        arms = [f"{name} is {' or '.join(one.label for one in arm)}" for name, arm in own.items()]
        shares = f"{1 - VALIDATION_SHARE - TEST_SHARE:.0%} / {VALIDATION_SHARE:.0%} / {TEST_SHARE:.0%}"
        facts = [
            f"{self.data.described}, {self.data.data.rows} rows",
            *steps,
            f"{model}, {self.epochs} epochs in batches of {self.batch_size}",
            f"AdamW at {rate} with weight decay {self.weight_decay:g}",
            *arms,
            f"{self.seeds} seeds, each with its own split ({shares}), first weights and batches, the same for every arm",
        ]
        return "; ".join(facts) + "."

    @property
    def _steps(self) -> tuple[tuple[str, tuple[Step, ...]], ...]:
        return ("training", self.train), ("test", self.test)

    def protocol(self) -> dict[str, Any]:
        return {
            "kind": "training",
            "title": self.title,
            **self._plan.to_dict(),
            "arms": {name: [one.label for one in arm] for name, arm in self.named_arms.items()},
            "measures": {name: _code(quantity) for name, quantity in self.measures.items()},
        }

    @functools.cached_property
    def _plan(self) -> Protocol:
        data = self.data.data
        candidates = tuple({one.label: one for arm in self.named_arms.values() for one in arm}.values())
        for candidate in candidates:
            check_candidate(candidate, data.task)
        self._check_quantities(data.task)
        steps = {part: [_code(step) for step in steps] for part, steps in self._steps}
        made = json.dumps([self.data.fingerprint(self.seeds), steps], sort_keys=True)
        return Protocol(
            data_name=data.name,
            data_fingerprint=hashlib.sha256(made.encode()).hexdigest()[:16],
            task=data.task,
            candidates=candidates,
            baseline=candidates[0],
            metric=data.task.metric(self.select).name,
            seeds=tuple(range(self.seeds)),
            learning_rates=tuple(sorted(self.learning_rates)),
            points=(),
            model=self.model,
            hidden=self.hidden,
            recipe=Recipe(self.epochs, self.batch_size, self.weight_decay),
            validation_share=VALIDATION_SHARE,
            test_share=TEST_SHARE,
        )

    def _check_quantities(self, task: Task) -> None:
        """Before all training and not after it."""
        for rule in self.rules:
            own = rule.quantity in {*self.measures, *QUANTITIES}
            if not (rule.quantity in NEED_PROBABILITIES if own else task.metric(rule.quantity).needs_probabilities):
                continue
            for one in (one for name in (rule.arm, rule.than) for one in self.named_arms.get(str(name), ())):
                if one.spec.link != "probabilities":
                    raise InvalidValueError(f"{self.title}: {one.label} gives no probabilities, so it has no {rule.quantity}")

    def measure(self, store: Store, tell: Tell) -> Measured:
        plan = self._plan
        code = code_of(__name__, *(type(step) if is_dataclass(step) else step for step in (*self.train, *self.test)))
        splits: list[Split] = []
        units: dict[str, Unit] = {}
        seconds, whole = 0.0, len(plan.candidates) * self.epochs
        for number, candidate in enumerate(plan.candidates):
            key = f"training {plan.unit_key(candidate)} {code}"
            kept = store.get(key)
            if kept is None:
                splits = splits or self.splits()
                started = time.process_time()

                def progress(epoch: int, number: int = number, label: str = candidate.label) -> None:
                    tell(label, number * self.epochs + epoch, whole)

                unit = run_unit(plan, candidate, splits, progress)
                record, arrays = pack(unit)
                spent = time.process_time() - started
                store.put(key, {**record, "processor_seconds": spent}, arrays)
            else:
                spent = kept[0].pop("processor_seconds")
                unit = unpack(candidate, *kept)
            units[candidate.label] = unit
            seconds += spent
        tell("measured", whole, whole)
        return Measured(self._values(units), seconds, all(unit.reused for unit in units.values()))

    def splits(self) -> list[Split]:
        """One split for each seed, after the steps."""
        task = self.data.data.task
        return [self._changed(split, task) for split in self.data.splits(self.seeds)]

    def _changed(self, split: Split, task: Task) -> Split:
        train, test = split.train, split.test
        for number, step in enumerate(self.train):
            train = step(train, np.random.default_rng([split.seed, 0, number]), task)
        for number, step in enumerate(self.test):
            test = step(test, np.random.default_rng([split.seed, 1, number]), task)
        return replace(split, train=train, test=test)

    def _values(self, units: Mapping[str, Unit]) -> Values:
        metric = self._plan.task.metric(self.select)
        sign = 1.0 if metric.greater_is_better else -1.0
        chosen: dict[str, list[Unit]] = {}  # arm -> for each seed the unit that stands for it
        for name, arm in self.named_arms.items():
            goodness = np.stack([sign * _at(units[one.label].validation, units[one.label].chosen) for one in arm])
            best = np.where(np.isfinite(goodness), goodness, -np.inf).argmax(0)
            chosen[name] = [units[arm[place].label] for place in best]
        quantities = dict.fromkeys(rule.quantity for rule in self.rules)
        return {
            quantity: {
                name: np.array([self._read(quantity, unit, seed) for seed, unit in enumerate(found)])
                for name, found in chosen.items()
            }
            for quantity in quantities
        }

    def _read(self, quantity: str, unit: Unit, seed: int) -> float:
        if unit.chosen[seed] < 0:
            return float("nan")
        if quantity in self.measures or quantity in QUANTITIES:
            function = self.measures.get(quantity) or QUANTITIES[quantity]
            return function(unit.truth[seed], unit.predictions[seed])
        return float(unit.test[self._plan.task.metric(quantity).name][seed])


def _at(validation: Array, chosen: Array) -> Array:
    """The validation value of the learning rate that was chosen, for each seed."""
    return np.asarray(np.where(chosen >= 0, validation[np.arange(len(chosen)), np.maximum(chosen, 0)], np.nan))


def _words(step: Step) -> str:
    return str(step) if is_dataclass(step) else step.__name__.replace("_", " ")


def _name(step: Callable[..., Any]) -> str:
    return repr(step) if is_dataclass(step) else step.__name__


def _code(step: Callable[..., Any]) -> str:
    """What a step or a quantity does: its name with its values, and its source."""
    source = inspect.getsource(type(step) if is_dataclass(step) else step)
    return f"{_name(step)} {hashlib.sha256(source.encode()).hexdigest()[:12]}"
