"""An experiment that is a function of a seed: optimizers on constructed data, simulations, trainings with a loop of their own."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lossary.arena.code import code_of
from lossary.arena.train.store import Store
from lossary.claims._claim import Measured, Tell
from lossary.claims._rules import Rule, Values
from lossary.errors import InvalidValueError

Numbers = Mapping[str, Mapping[str, float]]  # arm -> quantity -> value


@dataclass(frozen=True)
class Computation:
    """A function of a seed that returns ``{arm: {quantity: number}}``.

    Args:
        title: what is done, in a few words.
        function: called with the seed; all its chance has to come from there.
        rules: what the numbers are held against.
        seeds: 1 where nothing is left to chance: its numbers are then compared as they are.
        description: what is measured and how, in a sentence or two.
        shared: the share of the rows that each seed tests on where all seeds divide the same real data, 0 if they are independent.
        resolution: the smallest step in which the quantities can change, such as one row of the test part.
    """

    title: str
    function: Callable[[int], Numbers]
    rules: tuple[Rule, ...]
    seeds: int
    description: str
    shared: float = 0.0
    resolution: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.shared < 1:
            raise InvalidValueError(f"{self.title}: shared must be a number from 0 to below 1, got {self.shared}")

    @property
    def ratio(self) -> float:
        return self.shared / (1 - self.shared)

    @property
    def least(self) -> float:
        return self.resolution

    @property
    def described(self) -> str:
        return f"{self.description} {'Nothing is left to chance.' if self.seeds == 1 else f'{self.seeds} seeds.'}"

    def protocol(self) -> dict[str, Any]:
        return {
            "kind": "computation",
            "title": self.title,
            "description": self.description,
            "function": f"{_home(self.function)}.{self.function.__qualname__}",
            "seeds": self.seeds,
            "shared": self.shared,
            "resolution": self.resolution,
        }

    def measure(self, store: Store, tell: Tell) -> Measured:
        code = code_of(__name__, self.function)
        rows: list[dict[str, dict[str, float]]] = []
        seconds, reused = 0.0, True
        for seed in range(self.seeds):
            key = f"computation {code} {self.function.__qualname__} {seed}"
            kept = store.get(key)
            if kept is None:
                reused = False
                started = time.process_time()
                numbers = self._at(seed)
                record: dict[str, Any] = {"numbers": numbers, "seconds": time.process_time() - started}
                store.put(key, record, {})
            else:
                record = kept[0]
            rows.append(record["numbers"])
            seconds += record["seconds"]
            tell(f"seed {seed + 1} of {self.seeds}", seed + 1, self.seeds)
        return Measured(_by_quantity(self.title, rows), seconds, reused)

    def _at(self, seed: int) -> dict[str, dict[str, float]]:
        threads = torch.get_num_threads()
        try:
            torch.set_num_threads(1)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                found = self.function(seed)
        finally:
            torch.set_num_threads(threads)
        return {arm: {name: float(value) for name, value in values.items()} for arm, values in found.items()}


def _by_quantity(title: str, rows: list[dict[str, dict[str, float]]]) -> Values:
    first = {arm: set(values) for arm, values in rows[0].items()}
    if any({arm: set(values) for arm, values in row.items()} != first for row in rows):
        raise InvalidValueError(f"{title}: every seed must give the same arms and quantities")
    quantities = dict.fromkeys(name for values in rows[0].values() for name in values)
    return {
        name: {arm: np.array([row[arm][name] for row in rows]) for arm, values in rows[0].items() if name in values}
        for name in quantities
    }


def _home(function: Callable[..., Any]) -> str:
    """The module of a function; the room that a claim's file stands in determines no number, and is not part of a protocol."""
    return function.__module__.replace("lossary.claims.papers.", "lossary.claims.")
