"""What papers claim, measured at small scale: a statement, a measurement, rules fixed in advance, and a verdict.

One file for each paper, which defines ``CLAIM``. What can be known without measuring (names, statements, published verdicts) is
read from generated files, so that nothing here imports torch until something is run.

>>> from lossary import claims
>>> claims.entry("squentropy").paper
'squentropy'
"""

import functools
import importlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossary._core.extras import require
from lossary.errors import UnknownNameError

if TYPE_CHECKING:
    from lossary.claims._claim import Claim, Experiment, Measured
    from lossary.claims._computation import Computation
    from lossary.claims._fit import fit, mlp
    from lossary.claims._quantities import (
        QUANTITIES,
        accuracy_on,
        binned_error,
        f1,
        geometric_mean,
        pass_at,
        top_accuracy,
    )
    from lossary.claims._rules import Finding, Rule, higher, lower, same, steadier
    from lossary.claims._run import Outcome, Result, load, run
    from lossary.claims._sources import TEST_SHARE, Generated, Real, against_rest, label_rows, only, pixels, split_of
    from lossary.claims._steps import Few, InputNoise, LabelNoise, LongTail, MissingLabels, Positives
    from lossary.claims._training import Training

_HOMES = {
    "_claim": ("Claim", "Experiment", "Measured"),
    "_computation": ("Computation",),
    "_fit": ("fit", "mlp"),
    "_quantities": ("QUANTITIES", "accuracy_on", "binned_error", "f1", "geometric_mean", "pass_at", "top_accuracy"),
    "_rules": ("Finding", "Rule", "higher", "lower", "same", "steadier"),
    "_run": ("Outcome", "Result", "load", "run"),
    "_sources": ("TEST_SHARE", "Generated", "Real", "against_rest", "label_rows", "only", "pixels", "split_of"),
    "_steps": ("Few", "InputNoise", "LabelNoise", "LongTail", "MissingLabels", "Positives"),
    "_training": ("Training",),
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}
INDEX = Path(__file__).parents[1] / "catalogue" / "claims.json"
VERDICTS = Path(__file__).with_name("verdicts.json")

__all__ = [
    "QUANTITIES",
    "TEST_SHARE",
    "Claim",
    "Computation",
    "Entry",
    "Experiment",
    "Few",
    "Finding",
    "Generated",
    "InputNoise",
    "LabelNoise",
    "LongTail",
    "Measured",
    "MissingLabels",
    "Outcome",
    "Positives",
    "Real",
    "Result",
    "Rule",
    "Training",
    "about",
    "accuracy_on",
    "against_rest",
    "binned_error",
    "entries",
    "entry",
    "f1",
    "fit",
    "geometric_mean",
    "higher",
    "known",
    "label_rows",
    "load",
    "lower",
    "mlp",
    "names",
    "only",
    "pass_at",
    "pixels",
    "published",
    "run",
    "same",
    "split_of",
    "steadier",
    "top_accuracy",
]


@dataclass(frozen=True)
class Entry:
    """What the index says of a claim."""

    name: str
    paper: str
    statement: str
    rules: tuple[str, ...]
    seconds: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "rules": list(self.rules)}


def names() -> list[str]:
    """The claims that there are: one for each file, sorted."""
    return sorted(path.stem for path in Path(__file__).with_name("papers").glob("*.py") if not path.stem.startswith("_"))


@functools.cache
def entries() -> dict[str, Entry]:
    """Every claim of the index, which ``python tools/index.py`` writes."""
    found = json.loads(INDEX.read_text(encoding="utf-8"))
    return {each["name"]: Entry(**{**each, "rules": tuple(each["rules"])}) for each in found}


def entry(name: str) -> Entry:
    """A claim of the index by its name; a misspelt one is refused with suggestions."""
    return entries()[known(name, entries())]


def known(name: str, there: Iterable[str]) -> str:
    """The name of a claim as it is written, of those that there are."""
    wanted = name.strip().lower().replace("-", "_").replace(" ", "_")
    if wanted in there:
        return wanted
    import difflib  # only who misspells a name waits for it

    near = difflib.get_close_matches(wanted, there, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "lossary claim --list shows what there is"
    raise UnknownNameError(f"there is no claim named {name!r}; {hint}")


def about(paper: str) -> list[tuple[Entry, str]]:
    """The claims of a paper, each with its published verdict."""
    found = [claim for claim in entries().values() if claim.paper == paper]
    return [(claim, published().get(claim.name, {}).get("verdict", "not run yet")) for claim in found]


@functools.cache
def published() -> dict[str, dict[str, Any]]:
    """The verdicts that the project publishes, by claim, as ``make claims`` wrote them."""
    if not VERDICTS.exists():
        return {}
    found: dict[str, dict[str, Any]] = json.loads(VERDICTS.read_text(encoding="utf-8"))
    return found


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        require("a claim", "scipy", "sklearn", "pyarrow", "jinja2", "plotly")
        return getattr(importlib.import_module(f"lossary.claims.{_MODULE_OF[name]}"), name)
    raise AttributeError(f"module 'lossary.claims' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
