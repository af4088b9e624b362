"""What is registered, read from a generated file, so that nobody has to import torch to ask.

The file is written by ``python tools/index.py`` from the registry itself; a test holds the two together.
"""

import fnmatch
import functools
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lossary._core.kinds import FAMILIES, KINDS
from lossary._core.names import near, resolved
from lossary.errors import InvalidValueError, UnknownNameError

FILE = Path(__file__).with_name("registry.json")
# A small real data set for a first comparison, and what to compare with; the second name is for the first one itself.
_COMPARISONS = {
    "classification": ("digits", ("cross_entropy", "focal")),
    "multilabel": ("breast_cancer", ("binary_cross_entropy", "sigmoid_focal")),
    "regression": ("diabetes", ("mean_squared_error", "huber")),
}


@dataclass(frozen=True)
class Parameter:
    """One keyword of a unit: its default (None also where it has to be given) and what it may be, in words."""

    name: str
    required: bool
    default: Any
    text: str
    domain: str


@dataclass(frozen=True)
class Unit:
    """A registered unit, as the registry describes it. What follows ``parameters`` is known of objectives only."""

    kind: str
    name: str
    module: str
    cls: str
    function: str
    import_line: str
    summary: str
    parameters: tuple[Parameter, ...]
    family: str = ""
    consumes: str | list[str] = ""
    requires: list[str] = field(default_factory=list)
    soft_targets: bool = False
    decomposable: bool = False
    value_is_objective: bool = False
    stage: str = ""
    link: str = ""
    proper: bool = False
    saturates: bool = False
    vmap: bool = False
    compile: bool = False
    distributed: str = ""
    exact_gradient_with: dict[str, Any] = field(default_factory=dict)
    special_cases: list[dict[str, Any]] = field(default_factory=list)
    waivers: dict[str, str] = field(default_factory=dict)
    aliases: list[str] = field(default_factory=list)

    @property
    def spellings(self) -> tuple[str, ...]:
        """What else it is called by: its aliases, and the name of its class."""
        return (*self.aliases, self.cls)

    def takes(self, parameter: str) -> bool:
        return any(known.name == parameter for known in self.parameters)

    @property
    def create_line(self) -> str:
        """How it is built by name, or called where it is a function."""
        needed = [f"{p.name}=..." for p in self.parameters if p.required]
        if self.kind != "objective" and self.function:
            return f"{self.cls}({', '.join(p.removesuffix('=...') for p in needed)})"
        kind = [] if self.kind == "objective" else [f'kind="{self.kind}"']
        arguments = ", ".join([f'"{self.name}"', *kind, *needed])
        return f"lossary.create({arguments})"

    @property
    def compare_command(self) -> str | None:
        """A first comparison on real data, for the families that run on a plain table."""
        if self.kind != "objective" or self.family not in _COMPARISONS or self.requires or any(p.required for p in self.parameters):
            return None
        data, baselines = _COMPARISONS[self.family]
        first = baselines[0]
        second = baselines[1] if self.name == first else self.name
        return f"lossary compare {data} --objective {first} --objective {second}"


@functools.cache
def units() -> dict[tuple[str, str], Unit]:
    """Every unit of this package, by kind and name."""
    found = {}
    for raw in json.loads(FILE.read_text(encoding="utf-8")):
        parameters = tuple(Parameter(**parameter) for parameter in raw["parameters"])
        found[raw["kind"], raw["name"]] = Unit(**{**raw, "parameters": parameters})
    return found


def units_named(name: str) -> list[Unit]:
    """The units of this name or spelling, an objective first: several kinds may have the same one."""
    given = _plain(name)
    exact = [unit for unit in units().values() if given == unit.name]
    found = exact or [unit for unit in units().values() if resolved(name, {unit.name: unit.spellings}) == unit.name]
    return sorted(found, key=lambda unit: unit.kind != "objective")


def known_family(name: str) -> str:
    """A family's own name for what somebody typed; what is no family is refused."""
    return _known("family", resolved(_plain(name), FAMILIES), tuple(FAMILIES))


def _known(what: str, given: str, allowed: tuple[str, ...]) -> str:
    wanted = _plain(given)
    if wanted in allowed:
        return wanted
    alike = near(wanted, allowed)
    hint = f"did you mean {' or '.join(alike)}?" if alike else f"there are {', '.join(allowed)}"
    raise UnknownNameError(f"there is no {what} named {given!r}; {hint}")


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(" ", "_")


def list_units(
    pattern: str = "*",
    *,
    kind: str | None = None,
    family: str | None = None,
    takes: Iterable[str] = (),
    soft_targets: bool | None = None,
) -> list[Unit]:
    """The registered units that fit, by kind and name; a pattern without a wildcard may be any part of the name."""
    kind = None if kind is None else _known("kind", kind, tuple(KINDS))
    family = None if family is None else known_family(family)
    wanted = [_plain(parameter) for parameter in takes]
    every = {p.name for unit in units().values() for p in unit.parameters}
    for parameter in wanted:
        if every and parameter not in every:
            _known("parameter", parameter, tuple(sorted(every)))
    if not pattern.strip():
        raise InvalidValueError("the pattern is empty; leave it out to list everything")
    part = pattern if any(sign in pattern for sign in "*?[") else f"*{_plain(pattern)}*"
    return [
        unit
        for _, unit in sorted(units().items())
        if fnmatch.fnmatchcase(unit.name, part)
        and kind in (None, unit.kind)
        and family in (None, unit.family)
        and all(unit.takes(parameter) for parameter in wanted)
        and (soft_targets is None or (unit.kind == "objective" and unit.soft_targets == soft_targets))
    ]


def others(group: str = "lossary.objectives") -> list[tuple[str, str]]:
    """Objectives that other packages announce: their names and where they live; nothing of theirs is imported."""
    from importlib.metadata import entry_points

    return sorted((found.name, found.value) for found in entry_points(group=group))
