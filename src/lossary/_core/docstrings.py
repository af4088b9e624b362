"""Docstrings of pure functions and of ``forward``, made from the one docstring that a class has."""

import re
from collections.abc import Iterable
from inspect import cleandoc

_SECTION = re.compile(r"^(Args|Shape|Units|Errors|Source|Returns|Note|Example|Raises):")


def of_function(own: str, of_class: str, positional: Iterable[str], keywords: Iterable[str]) -> str:
    """The docstring of a pure function: that of the class, with the tensors as arguments, and the function's own sentence."""
    head, sections = _parts(of_class)
    summary, _, text = head.partition("\n")
    tensors = _tensors(sections.get("Shape", ""), positional)
    sections["Args"] = "\n".join(["Args:", *tensors, *_entries(sections.get("Args", ""), set(keywords))])
    order = [name for name in ("Args", "Shape", "Units", "Errors", "Source") if name in sections]
    parts = [summary, cleandoc(own), text.strip(), "\n".join(sections[name] for name in order)]
    return "\n\n".join(part for part in parts if part) + "\n"


def of_forward(of_class: str, arguments: Iterable[str]) -> str:
    """The docstring of ``forward``: the summary of the class, and the shape of each argument."""
    head, sections = _parts(of_class)
    lines = ["Compute the loss of a batch.", "", head.partition("\n")[0]]
    tensors = _tensors(sections.get("Shape", ""), arguments)
    return "\n".join([*lines, *(["", "Args:", *tensors] if tensors else [])]) + "\n"


def _parts(docstring: str) -> tuple[str, dict[str, str]]:
    """What comes before the first section, and each section whole; an example is left out."""
    head: list[str] = []
    sections: dict[str, list[str]] = {}
    current = head
    for line in cleandoc(docstring).partition("\n>>> ")[0].splitlines():
        named = _SECTION.match(line)
        if named:
            current = sections.setdefault(named[1], [])
        current.append(line)
    return "\n".join(head).strip(), {name: "\n".join(lines).rstrip() for name, lines in sections.items()}


def _tensors(shape: str, names: Iterable[str]) -> list[str]:
    """An entry for each argument, from the clause of the section on shapes that names it first."""
    clauses = [" ".join(clause.split()).rstrip(".") for clause in shape.removeprefix("Shape:").split(";")]
    found = []
    for name in names:
        clause = next((clause for clause in clauses if re.search(rf"\b{name}\b", clause)), "")
        text = clause.removeprefix(f"{name} ") if clause.startswith(f"{name} (") else clause
        found.append(f"    {name}: {text or 'see above'}.")
    return found


def _entries(section: str, keep: set[str]) -> list[str]:
    """The lines on the arguments that are kept."""
    lines: list[str] = []
    keeping = False
    for line in section.splitlines()[1:]:
        named = re.match(r"^ {4}([\w, ]+): (.*)$", line)
        if named:
            names = [name for name in map(str.strip, named[1].split(",")) if name in keep]
            keeping = bool(names)
            line = f"    {', '.join(names)}: {named[2]}"
        if keeping:
            lines.append(line)
    return lines
