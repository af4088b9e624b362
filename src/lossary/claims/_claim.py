"""A claim: what a paper says, how it is measured here, and the rules that decide."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from lossary.arena.train.store import Store
from lossary.claims._rules import CONFIDENCE, Rule, Values
from lossary.errors import InvalidValueError

MOST_SECONDS = 120
FEWEST_SEEDS = 5
Tell = Callable[[str, int, int], None]  # what is being done, how much of it is, of how much


@dataclass(frozen=True)
class Measured:
    """Numbers of one experiment, and the seconds of one processor that they took when they were computed."""

    values: Values
    seconds: float
    reused: bool  # whether all of it was taken from earlier work


class Experiment(Protocol):
    """One measurement with its rules: :class:`Training` or :class:`Computation`."""

    @property
    def title(self) -> str:
        """What is done, in a few words."""

    @property
    def rules(self) -> tuple[Rule, ...]:
        """What the numbers are held against."""

    @property
    def seeds(self) -> int:
        """Repetitions."""

    @property
    def ratio(self) -> float:
        """How far the seeds share data, as the corrected interval wants it."""

    @property
    def least(self) -> float:
        """The deviation assumed where all differences are equal."""

    @property
    def described(self) -> str:
        """The measurement in a sentence or two, written from its own values."""

    def protocol(self) -> dict[str, Any]:
        """All that determines the numbers, as plain values."""

    def measure(self, store: Store, tell: Tell) -> Measured:
        """The numbers, as far as possible from the store, with every finished piece of work put there at once."""


@dataclass(frozen=True)
class Claim:
    """What a paper says in our own words, and the experiments that decide whether it holds here.

    Args:
        paper: the key of the paper in the catalogue.
        statement: one or two sentences, in our own words.
        experiments: at least one; all rules of all of them have to hold.
        seconds: how long one processor may need, at most 120.
        note: what a reader should know to read the verdict rightly, such as how the scale differs from the paper's.
    """

    paper: str
    statement: str
    experiments: tuple[Experiment, ...]
    seconds: int
    note: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.seconds <= MOST_SECONDS:
            raise InvalidValueError(f"claim of {self.paper}: seconds must be from 1 to {MOST_SECONDS}, got {self.seconds}")
        if not self.statement.strip() or not self.rules:
            raise InvalidValueError(f"claim of {self.paper}: it needs a statement and at least one rule")
        for experiment in self.experiments:
            if experiment.seeds != 1 and experiment.seeds < FEWEST_SEEDS:
                raise InvalidValueError(
                    f"claim of {self.paper}: seeds must be at least {FEWEST_SEEDS}, or 1 where nothing is left to chance,"
                    f" got {experiment.seeds}"
                )

    @property
    def rules(self) -> tuple[Rule, ...]:
        return tuple(rule for experiment in self.experiments for rule in experiment.rules)

    @property
    def confidence(self) -> float:
        """Of each rule's interval: the error that the claim as a whole may make is divided among its rules."""
        return 1 - (1 - CONFIDENCE) / len(self.rules)

    def protocol(self) -> dict[str, Any]:
        """Everything that was fixed before the first measurement."""
        return {
            "paper": self.paper,
            "statement": self.statement,
            "confidence": CONFIDENCE,
            "experiments": [
                {**experiment.protocol(), "rules": [asdict(rule) for rule in experiment.rules]} for experiment in self.experiments
            ],
        }

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(self.protocol(), sort_keys=True).encode()).hexdigest()[:12]
