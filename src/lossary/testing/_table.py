"""The mechanism that all suites share: a table of checks for one kind of unit, run on one unit, gives a card.

A check is a function of a subject. It returns a sentence about what holds, raises :class:`Failed` with the numbers
that show a fault, or :class:`NotApplicable` with the reason. Any other exception is a failure as well.
"""

import inspect
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Generic, Protocol, TypeVar

from lossary._core.names import suggestion
from lossary.errors import UnknownNameError
from lossary.testing._card import Card, Result, Status
from lossary.testing._outcome import Failed, NotApplicable


class Checked(Protocol):
    """A subject of any suite: its name, its family (or kind), and a reason for each check that it waives."""

    @property
    def name(self) -> str: ...

    @property
    def family(self) -> str: ...

    @property
    def waivers(self) -> Mapping[str, str]: ...


S = TypeVar("S", bound=Checked)


class Table(Generic[S]):
    """The checks of one kind of unit, by name, in the order in which a card lists them."""

    def __init__(self, *checks: Callable[[S], str]):
        self.checks: dict[str, Callable[[S], str]] = {check.__name__: check for check in checks}

    def named(self, only: Iterable[str] | None) -> list[str]:
        """The checks with these names, in the order of the table; all of them for None."""
        wanted = list(self.checks) if only is None else list(only)
        for name in wanted:
            if name not in self.checks:
                raise UnknownNameError(f"there is no check named {name!r}{suggestion(name, self.checks)}")
        return [name for name in self.checks if name in wanted]

    def describe(self, check: str) -> str:
        """What a check asserts, in one line."""
        return (inspect.getdoc(self.checks[check]) or "").partition("\n")[0]

    def card(self, subject: S, only: Iterable[str] | None = None) -> Card:
        """Run the checks on one subject."""
        return Card(subject.name, subject.family, tuple(self.run(name, subject) for name in self.named(only)))

    def run(self, name: str, subject: S) -> Result:
        """Run one check; a waiver turns its failure into "waived", and anything else into a failure of the waiver."""
        started = time.perf_counter()
        status, detail = _outcome(self.checks[name], subject)
        reason = subject.waivers.get(name)
        if reason is not None:
            if status == "failed":
                status, detail = "waived", f"{reason} ({detail})"
            else:
                status, detail = "failed", f"the waiver is stale: the check is {status} ({detail})"
        return Result(name, status, detail, time.perf_counter() - started)


def _outcome(check: Callable[[S], str], subject: S) -> tuple[Status, str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", module=r"torch\.(_dynamo|_inductor|_functorch|jit)")
            return "passed", check(subject)
    except NotApplicable as reason:
        return "not applicable", str(reason)
    except Failed as fault:
        return "failed", str(fault)
    except Exception as error:  # whatever somebody's unit raises where it should have answered
        return "failed", f"{type(error).__name__}: {first_line(str(error))}"


def first_line(text: str) -> str:
    """The first line of a message, of at most 160 characters."""
    line = text.strip().partition("\n")[0]
    return line if len(line) <= 160 else line[:157] + "..."
