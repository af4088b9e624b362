"""One record for each paper: bibliography, what it is good for, and the names of the units it provides here."""

import difflib
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lossary.catalogue._units import Unit, units, units_named
from lossary.errors import UnknownNameError

STATUSES = ("available", "partly", "missing", "no unit")
_FILE = Path(__file__).with_name("papers.json")


@dataclass(frozen=True)
class Paper:
    """A paper, or a classical baseline (which has no number)."""

    number: int | None
    key: str
    title: str
    year: int | None
    arxiv: str | None
    authors: tuple[str, ...]
    summary: str
    tasks: tuple[str, ...]
    data: tuple[str, ...]
    symptoms: tuple[str, ...]
    techniques: tuple[str, ...]
    provides: Mapping[str, tuple[str, ...]]
    note: str = ""

    @property
    def units(self) -> tuple[Unit, ...]:
        """What it provides and can be used now."""
        registered = units()
        wanted = [(kind, name) for kind, names in self.provides.items() for name in names]
        return tuple(registered[pair] for pair in wanted if pair in registered)

    @property
    def missing(self) -> tuple[str, ...]:
        """The names of what it provides that is not implemented yet."""
        registered = units()
        return tuple(name for kind, names in self.provides.items() for name in names if (kind, name) not in registered)

    @property
    def status(self) -> str:
        """Derived from what is registered, so that it cannot be out of date."""
        if not self.provides:
            return "no unit"
        if not self.missing:
            return "available"
        return "partly" if self.units else "missing"

    @property
    def citation(self) -> str:
        """Authors and year in one line, as far as they are known."""
        names = list(self.authors)
        if len(names) > 4:
            names = [names[0], "and others"]
        elif len(names) > 1:
            names = [*names[:-2], f"{names[-2]} and {names[-1]}"]
        year = str(self.year) if self.year else ""
        where = f"arXiv:{self.arxiv}" if self.arxiv else ""
        return ", ".join(part for part in (" ".join(names) if len(self.authors) > 4 else ", ".join(names), year, where) if part)

    @property
    def url(self) -> str | None:
        return f"https://arxiv.org/abs/{self.arxiv}" if self.arxiv else None

    def as_dict(self) -> dict[str, Any]:
        """The record as plain JSON values, with its derived status."""
        return {
            "number": self.number,
            "key": self.key,
            "title": self.title,
            "status": self.status,
            "year": self.year,
            "arxiv": self.arxiv,
            "authors": list(self.authors),
            "summary": self.summary,
            "tasks": list(self.tasks),
            "data": list(self.data),
            "symptoms": list(self.symptoms),
            "techniques": list(self.techniques),
            "provides": {kind: list(names) for kind, names in self.provides.items()},
            "missing": list(self.missing),
            "note": self.note,
        }


@functools.cache
def load() -> tuple[Paper, ...]:
    """Every record: the papers by number, then the classical baselines by key."""
    lists = ("authors", "tasks", "data", "symptoms", "techniques")
    found = []
    for raw in json.loads(_FILE.read_text(encoding="utf-8")):
        provides = MappingProxyType({kind: tuple(names) for kind, names in raw["provides"].items()})
        found.append(Paper(**{**raw, **{name: tuple(raw[name]) for name in lists}, "provides": provides}))
    return tuple(found)


def papers_providing(kind: str, name: str) -> tuple[Paper, ...]:
    """The records that provide a unit, the one that is named after it first: a survey provides what others proposed."""
    providing = [paper for paper in load() if name in paper.provides.get(kind, ())]
    return tuple(sorted(providing, key=lambda paper: (paper.key != name, sum(map(len, paper.provides.values())))))


def entry(key_or_name: str) -> Paper:
    """The record of a key, of a unit's name, of an arXiv identifier or of a paper's number."""
    wanted = key_or_name.strip().lower().replace("-", "_").replace(" ", "_")
    by_key = {paper.key: paper for paper in load()}
    if wanted in by_key:
        return by_key[wanted]
    by_name = {name: kind for paper in load() for kind, names in paper.provides.items() for name in names}
    wanted = next((unit.name for unit in units_named(key_or_name)), wanted)
    if wanted in by_name:
        return papers_providing(by_name[wanted], wanted)[0]
    for paper in load():
        if wanted in (paper.arxiv, str(paper.number)):
            return paper
    near = difflib.get_close_matches(wanted, [*by_key, *by_name], n=6, cutoff=0.6)
    hint = f"did you mean {' or '.join(repr(name) for name in list(dict.fromkeys(near))[:3])}?" if near else "try lossary find"
    raise UnknownNameError(f"there is no entry named {key_or_name!r}; {hint}")
