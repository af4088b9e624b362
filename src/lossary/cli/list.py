"""lossary list: what is registered."""

from dataclasses import asdict
from typing import Annotated

import typer

from lossary.catalogue import known_family, list_units, others
from lossary.cli._output import number_of, styled, table, write, write_json


def list_(
    pattern: Annotated[
        str | None, typer.Argument(help="Part of a name, or a wildcard such as '*focal*'.", show_default=False)
    ] = None,
    family: Annotated[str | None, typer.Option("--family", "-f", help="Such as classification or segmentation.")] = None,
    kind: Annotated[str | None, typer.Option("--kind", "-k", help="Such as objective or optimizer.")] = None,
    takes: Annotated[list[str] | None, typer.Option("--takes", "-t", help="Only those with this parameter; repeatable.")] = None,
    soft_targets: Annotated[bool | None, typer.Option("--soft-targets/--hard-targets", help="By the targets they accept.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
) -> None:
    """List what can be created, by name."""
    found = list_units("*" if pattern is None else pattern, kind=kind, family=family, takes=takes or (), soft_targets=soft_targets)
    filtered = pattern is not None or family is not None or kind not in (None, "objective") or takes or soft_targets is not None
    foreign = [] if filtered else others()
    if json:
        known = [asdict(unit) for unit in found]
        write_json({"units": known, "others": [{"name": name, "module": module} for name, module in foreign]})
    elif found or foreign:
        rows = [(unit.name, unit.family or unit.kind.replace("_", " "), unit.summary) for unit in found]
        lines = table(rows, ("bold", "cyan"))
        lines += table([(name, f"another package: {module}") for name, module in foreign], ("bold",))
        write([*lines, "", styled(f"{number_of(len(found) + len(foreign), 'unit')}; more about one: lossary show NAME", "dim")])
    if found or foreign:
        return
    nothing = pattern is None and not takes and soft_targets is None  # a known family or kind that is empty is an answer
    if not json:
        where = " ".join(word for word in (known_family(family) if family else "", kind or "unit") if word)
        write(f"No {where} is implemented yet." if nothing else "Nothing registered fits; see everything with: lossary list")
    if not nothing:
        raise typer.Exit(1)
