"""lossary papers: the whole catalogue, counted and listed."""

import difflib
from collections import Counter
from typing import Annotated

import typer

from lossary.catalogue import STATUSES, load
from lossary.cli._output import number_of, styled, table, write, write_json
from lossary.errors import UnknownNameError


def papers(
    status: Annotated[str | None, typer.Option("--status", "-s", help=f"One of: {', '.join(STATUSES)}.")] = None,
    task: Annotated[str | None, typer.Option("--task", "-t", help="Such as segmentation or calibration.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
) -> None:
    """List the papers of the catalogue and how many are available."""
    tasks = sorted({each for paper in load() for each in paper.tasks})
    wanted = None if status is None else _one_of("status", status, STATUSES)
    about = None if task is None else _one_of("task", task, tasks)
    found = [p for p in load() if wanted in (None, p.status) and (about is None or about in p.tasks)]
    counts = Counter(paper.status for paper in found)
    if json:
        write_json({"counts": {name: counts[name] for name in STATUSES}, "papers": [paper.as_dict() for paper in found]})
    elif found:
        rows = [("" if p.number is None else str(p.number), p.status, str(p.year or ""), p.key, p.title) for p in found]
        summary = ", ".join(f"{counts[name]} {name}" for name in STATUSES if counts[name])
        write([*table(rows, (None, "cyan", None, "bold")), "", styled(f"{number_of(len(found), 'entry')}: {summary}", "dim")])
    else:
        write("No entry fits.")
    if not found:
        raise typer.Exit(1)


def _one_of(what: str, given: str, allowed: tuple[str, ...] | list[str]) -> str:
    plain = " ".join(given.lower().replace("_", " ").replace("-", " ").split())
    by_plain = {name.lower().replace("-", " "): name for name in allowed}
    if plain in by_plain:
        return by_plain[plain]
    near = [by_plain[name] for name in difflib.get_close_matches(plain, by_plain, n=3, cutoff=0.5)]
    hint = f"did you mean {' or '.join(repr(name) for name in near)}?" if near else f"there are {', '.join(allowed)}"
    raise UnknownNameError(f"papers: there is no {what} {given!r}; {hint}")
