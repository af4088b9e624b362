"""``lossary claim``: does what a paper says hold here, at small scale?"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lossary import catalogue, claims
from lossary.cli._output import number_of, said_when_stopped, styled, table, write, write_json
from lossary.errors import InvalidValueError, UnknownNameError

if TYPE_CHECKING:
    from rich.console import Console

    from lossary.claims import Outcome

_COLOURS = {"held": "green", "not held": "yellow", "not decided": "dim"}


def claim(
    name: Annotated[list[str] | None, typer.Argument(help="A claim, such as squentropy; several run in turn.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Run every claim there is.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="List the claims with their verdicts, and run nothing.")] = False,
    out: Annotated[Path, typer.Option(help="The folder for pictures, numbers and finished work.")] = Path("lossary-results"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the result for programs on standard output.")] = False,
) -> None:
    """Run a paper's claim at small scale, and say whether it held, did not hold, or could not be decided.

    Finished work is kept in the folder --out; the same command again, or after Ctrl-C, goes on from there.
    Exit code: 0 if it ran, whatever the verdict; 2 for a mistake in the command; 130 if it was stopped.
    """
    if sum((bool(name), all_, list_)) != 1:
        raise InvalidValueError("claim: name a claim, such as squentropy, or give --all or --list, one of the three")
    if list_:
        _list(out / "claims", as_json)
        return
    wanted = list(claims.entries()) if all_ else list(dict.fromkeys(map(_named, name or ())))
    with said_when_stopped("work is"):
        _run(wanted, out / "claims", as_json)


def _named(given: str) -> str:
    """The name of a claim as it is written; of another unit of its paper, it is said which claim is meant."""
    try:
        return claims.entry(given).name
    except UnknownNameError as error:
        sentence = str(error)
    with suppress(UnknownNameError):
        found = [claim.name for claim, _ in claims.about(catalogue.entry(given).key)]
        if found:
            sentence = f"there is no claim named {given!r}; its paper's is {' and '.join(map(repr, found))}"
    raise UnknownNameError(f"claim: {sentence}")


def _list(folder: Path, as_json: bool) -> None:
    rows = []
    for name, entry in claims.entries().items():
        verdict = claims.published().get(name, {}).get("verdict")
        rows.append({**entry.to_dict(), "verdict": verdict, "verdict_here": _verdict_in(folder / f"{name}.json")})
    if as_json:
        write_json({"claims": rows})
        return
    cells = []
    for row in rows:
        own = row["verdict_here"]
        shown = f"{row['verdict'] or 'not run yet'}{f' (here: {own})' if own not in (None, row['verdict']) else ''}"
        cells.append((str(row["name"]), shown, str(row["statement"])))
    write([*table(cells, ("bold", "cyan")), "", styled(f"{number_of(len(rows), 'claim')}; run one: lossary claim NAME", "dim")])


def _verdict_in(path: Path) -> str | None:
    """What a run of one's own said, if there was one."""
    return str(json.loads(path.read_text(encoding="utf-8"))["verdict"]) if path.exists() else None


def _run(wanted: list[str], folder: Path, as_json: bool) -> None:
    from rich.console import Console

    from lossary.claims._write import picture

    outcomes = []
    for place, name in enumerate(wanted, start=1):
        with _progress(Console(stderr=True), f"{name} ({place} of {len(wanted)})") as tell:
            outcome = claims.run(name, store=folder / "claims.sqlite", tell=tell)
        drawn = folder / f"{name}.svg"
        drawn.write_text(picture(outcome), encoding="utf-8", newline="\n")
        (folder / f"{name}.json").write_text(json.dumps(outcome.to_dict(), indent=1) + "\n", encoding="utf-8")
        outcomes.append({**outcome.to_dict(), "picture": str(drawn)})
        if not as_json:
            _show(Console(), outcome, drawn)
    if as_json:
        write_json({"claims": outcomes})


@contextmanager
def _progress(console: "Console", name: str) -> "Iterator[Callable[[str, int, int], None]]":
    """A bar with the time left on a terminal; elsewhere a line when it is done."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        work = bar.add_task(name, total=None)

        def tell(what: str, done: int, whole: int) -> None:
            bar.update(work, total=whole, completed=done, description=f"{name}: {what}")

        yield tell
    if not console.is_terminal:
        console.print(f"{name}: finished", highlight=False, markup=False)


def _show(console: "Console", outcome: "Outcome", drawn: Path) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    from lossary.catalogue import entry as paper_of
    from lossary.claims._write import numbers

    paper = paper_of(outcome.claim.paper)
    console.print(f"[bold]{escape(outcome.name)}[/]: {escape(outcome.claim.statement)}", highlight=False)
    console.print(escape(f"{paper.title} ({paper.citation})"), style="dim", highlight=False)
    for result in outcome.results:
        console.print(f"\n[bold]{escape(result.title)}[/]: {escape(result.described)}", highlight=False)
        rows = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        rows.add_column("rule", overflow="fold")
        rows.add_column(f"found ({100 * outcome.claim.confidence:.4g}% interval)", overflow="fold")
        rows.add_column("verdict", no_wrap=True)
        for finding in result.findings:
            colour = _COLOURS[finding.verdict]
            rows.add_row(escape(finding.text), escape(numbers(finding)), f"[{colour}]{finding.verdict}[/]")
        console.print(rows)
    if outcome.claim.note:
        console.print(escape(outcome.claim.note), highlight=False)
    time = "taken from earlier work" if outcome.reused else f"{outcome.seconds:.0f} s"
    console.print(f"[bold]Verdict: [{_COLOURS[outcome.verdict]}]{outcome.verdict}[/][/] ({time})", highlight=False)
    console.print(f"Picture: {escape(str(drawn))}", highlight=False, soft_wrap=True)
