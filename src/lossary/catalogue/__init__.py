"""The catalogue: what each paper proposes, what it provides here, and a search by meaning. Nothing in it needs torch."""

from lossary.catalogue._docs import Docs, docs_of
from lossary.catalogue._records import STATUSES, Paper, entry, load, papers_providing
from lossary.catalogue._search import Found, Match, find, search
from lossary.catalogue._units import FAMILIES, KINDS, Parameter, Unit, known_family, list_units, others, units

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
]
