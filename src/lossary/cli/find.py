"""lossary find: entries of the catalogue by meaning."""

from typing import Annotated

import typer

from lossary.catalogue import Match, Paper
from lossary.catalogue import find as find_entries
from lossary.cli._output import STATUS_STYLES, labelled, styled, to_copy, wrapped, write, write_json


def find(
    query: Annotated[list[str], typer.Argument(help="A problem or a wish, in your own words.", show_default=False)],
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many entries to show.")] = 5,
    json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
) -> None:
    """Find what fits a problem: lossary find "rare classes, multi-label"."""
    asked = " ".join(query)
    found = find_entries(asked, limit)
    if json:
        results = [_as_dict(match) for match in found.matches]
        write_json({"query": asked, "corrections": found.corrections, "results": results})
    elif not found.matches:
        write("Nothing found; describe the problem in other words, or see everything with: lossary papers")
    else:
        lines = [f"Taking {wrong!r} for {right!r}." for wrong, right in found.corrections.items()]
        for rank, match in enumerate(found.matches, 1):
            lines += ["", *_shown(rank, match)]
        write([*lines, "", styled("More about one of them: lossary show KEY", "dim")])
    if not found.matches:
        raise typer.Exit(1)


def _shown(rank: int, match: Match) -> list[str]:
    paper = match.paper
    status = "not implemented here yet" if paper.status == "missing" else paper.status
    head = f"{rank}. {styled(paper.key, 'bold')}  {styled(f'[{status}]', STATUS_STYLES[paper.status])}"
    lines = [head, *wrapped(paper.title, "   "), *wrapped(paper.summary.split(". ")[0].rstrip(".") + ".", "   ")]
    reasons = [*match.because, *(f"idea: {idea}" for idea in match.ideas[:2])]
    if reasons:
        lines += labelled("   because", "; ".join(reasons), 13)
    if paper.units:
        names: dict[str, list[str]] = {}
        for unit in paper.units:
            home, _, name = unit.import_line.rpartition(" import ")
            names.setdefault(home, []).append(name)
        lines += [line for home in names for line in to_copy("   import", f"{home} import {', '.join(sorted(names[home]))}", 13)]
    return lines + [line for command in _commands(paper)[:1] for line in to_copy("   compare", command, 13)]


def _commands(paper: Paper) -> list[str]:
    return [unit.compare_command for unit in paper.units if unit.compare_command]


def _as_dict(match: Match) -> dict[str, object]:
    units = match.paper.units
    return {
        **match.paper.as_dict(),
        "score": match.score,
        "because": list(match.because),
        "ideas": list(match.ideas),
        "import": [unit.import_line for unit in units],
        "compare": _commands(match.paper),
    }
