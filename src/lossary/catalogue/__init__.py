"""The catalogue: what each paper proposes, what it provides here, and a search by meaning. Nothing in it needs torch."""

from typing import TYPE_CHECKING, Any

from lossary._core.kinds import FAMILIES, KINDS
from lossary.catalogue._records import STATUSES, Paper, entry, load, papers_providing
from lossary.catalogue._search import Found, Match, find, search
from lossary.catalogue._units import Parameter, Unit, known_family, list_units, others, units, units_named

if TYPE_CHECKING:
    from lossary.catalogue._docs import Docs, docs_of

__all__ = [
    "FAMILIES",
    "KINDS",
    "STATUSES",
    "Docs",
    "Found",
    "Match",
    "Paper",
    "Parameter",
    "Unit",
    "docs_of",
    "entry",
    "find",
    "known_family",
    "list_units",
    "load",
    "others",
    "papers_providing",
    "search",
    "units",
    "units_named",
]


def __getattr__(name: str) -> Any:
    if name in ("Docs", "docs_of"):  # only showing an entry needs them, and every command would wait for their import
        from lossary.catalogue import _docs

        return getattr(_docs, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
