"""The card of one loss: what was checked, what failed, and what did not apply."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, Literal
from unittest import SkipTest

Status = Literal["passed", "failed", "waived", "not applicable"]


@dataclass(frozen=True)
class Result:
    """The outcome of one check; ``detail`` names numbers, or the reason."""

    check: str
    status: Status
    detail: str
    seconds: float

    def verify(self) -> None:
        """Raise AssertionError for a failure and ``unittest.SkipTest``, which pytest reports as a skip, where nothing applied."""
        if self.status == "not applicable":
            raise SkipTest(self.detail)
        if self.status == "failed":
            raise AssertionError(f"{self.check}: {self.detail}")


@dataclass(frozen=True)
class Card:
    """The outcome of every check that was run on one loss."""

    name: str
    family: str
    results: tuple[Result, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return not any(result.status == "failed" for result in self.results)

    @property
    def counts(self) -> dict[str, int]:
        """How many checks ended each way."""
        found = Counter(result.status for result in self.results)
        return {
            "passed": found["passed"],
            "failed": found["failed"],
            "waived": found["waived"],
            "not applicable": found["not applicable"],
        }

    @property
    def skips(self) -> tuple[Result, ...]:
        """The checks that did not apply; each ``detail`` is the reason."""
        return tuple(result for result in self.results if result.status == "not applicable")

    @property
    def failures(self) -> tuple[Result, ...]:
        return tuple(result for result in self.results if result.status == "failed")

    def to_dict(self) -> dict[str, Any]:
        """The card as plain data, for JSON."""
        return {
            "name": self.name,
            "family": self.family,
            "passed": self.passed,
            "counts": self.counts,
            "results": [asdict(result) for result in self.results],
        }

    def __str__(self) -> str:
        lines = [f"{result.status:>14}  {result.check}: {result.detail}" for result in self.results]
        summary = ", ".join(f"{count} {status}" for status, count in self.counts.items())
        return "\n".join([f"{self.name} ({self.family}): {summary}", *lines])
