"""Running a claim: measure every experiment, apply its rules, say the verdict."""

import importlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lossary.arena.train.store import Store
from lossary.claims import known, names
from lossary.claims._claim import Claim, Experiment
from lossary.claims._rules import Finding, Values, Verdict, judge, together

TellAll = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Result:
    """One experiment with its numbers and what its rules say about them."""

    title: str
    described: str
    values: Values
    findings: tuple[Finding, ...]
    seconds: float
    reused: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain values, the numbers of every seed included."""
        values = {
            quantity: {
                arm: [float(f"{value:.6g}") if np.isfinite(value) else None for value in found] for arm, found in arms.items()
            }
            for quantity, arms in self.values.items()
        }
        return {
            "title": self.title,
            "described": self.described,
            "findings": [finding.to_dict() for finding in self.findings],
            "values": values,
            "seconds": round(self.seconds, 1),
            "reused": self.reused,
        }


@dataclass(frozen=True)
class Outcome:
    """A claim that was run."""

    name: str
    claim: Claim
    results: tuple[Result, ...]

    @property
    def verdict(self) -> Verdict:
        return together([finding.verdict for result in self.results for finding in result.findings])

    @property
    def seconds(self) -> float:
        """Of one processor, when the numbers were computed, also where they were kept from earlier."""
        return sum(result.seconds for result in self.results)

    @property
    def reused(self) -> bool:
        return all(result.reused for result in self.results)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for programs, as ``lossary claim --json`` prints them."""
        return {
            "name": self.name,
            "paper": self.claim.paper,
            "statement": self.claim.statement,
            "verdict": self.verdict,
            "digest": self.claim.digest,
            "confidence": self.claim.confidence,
            "note": self.claim.note,
            "seconds": round(self.seconds, 1),
            "reused": self.reused,
            "experiments": [result.to_dict() for result in self.results],
        }


def load(name: str) -> Claim:
    """The claim of this name."""
    found = importlib.import_module(f"lossary.claims.papers.{known(name, names())}").CLAIM
    if not isinstance(found, Claim):
        raise TypeError(f"lossary.claims.{name}: CLAIM must be a Claim, got {type(found).__name__}")
    return found


def run(
    claim: str | Claim,
    *,
    store: str | Path | None = "lossary-results/claims/claims.sqlite",
    tell: TellAll | None = None,
) -> Outcome:
    """Run a claim; what was measured before, in this protocol and with this code, is taken from the store.

    Args:
        claim: its name, or a claim of one's own.
        store: the file that keeps finished work, or None to keep nothing.
        tell: called with what is being done and how much of how much is.
    """
    name = claim.paper if isinstance(claim, Claim) else known(claim, names())
    found = claim if isinstance(claim, Claim) else load(claim)
    with tempfile.TemporaryDirectory() as scratch:
        kept = Store(Path(scratch) / "claims.sqlite" if store is None else Path(store))
        plan = json.dumps({"digest": found.digest, **found.protocol()}, indent=2)
        (kept.path.parent / f"{name}.claim.json").write_text(plan + "\n", encoding="utf-8")  # before anything is measured
        try:
            results = [_result(found, number, kept, tell) for number in range(len(found.experiments))]
        finally:
            kept.close()
    return Outcome(name, found, tuple(results))


def _result(claim: Claim, number: int, store: Store, tell: TellAll | None) -> Result:
    experiment: Experiment = claim.experiments[number]

    def say(what: str, done: int, whole: int) -> None:
        if tell is not None:  # every experiment counts as much as any other
            tell(f"{experiment.title}: {what}", number * 1000 + 1000 * done // max(whole, 1), 1000 * len(claim.experiments))

    measured = experiment.measure(store, say)
    findings = tuple(
        judge(rule, measured.values, experiment.ratio, claim.confidence, experiment.least) for rule in experiment.rules
    )
    return Result(experiment.title, experiment.described, measured.values, findings, measured.seconds, measured.reused)
