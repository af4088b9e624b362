"""lossary check: run the conformance suite of a unit's kind."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lossary.errors import InvalidValueError

if TYPE_CHECKING:
    from lossary.testing import Card


def check(
    loss: Annotated[
        str | None,
        typer.Argument(
            help="A registered name such as focal or sign_sgd, or module:Class, module:instance or module:factory.",
            show_default=False,
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(help="objective, optimizer, layer or diagnostic, where the name does not tell.", show_default=False),
    ] = None,
    family: Annotated[
        str | None, typer.Option(help="The family of the loss, where its behaviour does not tell.", show_default=False)
    ] = None,
    param: Annotated[
        list[str] | None, typer.Option(help="A parameter to build the loss with, as name=value (value in JSON). Repeatable.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Run only this check. Repeatable.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the card as JSON.")] = False,
    list_checks: Annotated[bool, typer.Option("--list", help="List the checks and what each asserts.")] = False,
) -> None:
    """Run the conformance suite on any loss, optimizer, layer or metric and print what holds and what fails.

    It need not be one of Lossary's: modules of the current directory can be named, and so can torch.nn:CrossEntropyLoss. A
    class of torch.optim is checked as an optimizer; a layer or a metric that is not registered needs --kind.
    Exit code: 0 if everything passed, 1 if something failed, 2 for a mistake in the command.
    """
    if list_checks:
        _list(kind or "objective", as_json)
        return
    if loss is None:
        raise InvalidValueError(
            "check: name a loss, such as focal or my_losses:MyLoss, got nothing (--list shows what would be checked)"
        )
    parameters = dict(_parameter(text) for text in param or ())
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))

    card = _card(loss, kind, only or None, family, parameters)
    if as_json:
        typer.echo(json.dumps(card.to_dict(), indent=2))
    else:
        _show(card)
    raise typer.Exit(0 if card.passed else 1)


def _card(loss: str, kind: str | None, only: list[str] | None, family: str | None, parameters: dict[str, object]) -> "Card":
    """The card of the suite of a kind, by default of the kind that the name has."""
    from lossary.testing import check_layer, check_metric, check_objective, check_optimizer, kind_of

    kind = _known(kind) if kind is not None else kind_of(loss)
    if kind == "objective":
        return check_objective(loss, only=only, family=family, parameters=parameters)
    if family is not None:
        raise InvalidValueError(f"check: --family must be left out for a unit of kind {kind!r}, got {family!r}")
    checks: dict[str, Callable[..., Card]] = {"optimizer": check_optimizer, "layer": check_layer, "diagnostic": check_metric}
    return checks[kind](loss, only=only, parameters=parameters)


def _known(kind: str) -> str:
    from lossary.testing import SUITES

    if kind not in SUITES:
        raise InvalidValueError(f"check: --kind must be one of {', '.join(SUITES)}, got {kind!r}")
    return kind


def _parameter(text: str) -> tuple[str, object]:
    """One ``name=value``; a value that is not JSON is a word."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise InvalidValueError(f"check: --param must be name=value, got {text!r}")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        if value[:1] in '[{"':
            raise InvalidValueError(f"check: the value of --param {name} must be JSON or a word, got {value!r}") from None
        return name, value


def _list(kind: str, as_json: bool) -> None:
    from lossary.testing import SUITES

    suite = SUITES[_known(kind)]
    if as_json:
        typer.echo(json.dumps({name: suite.describe(name) for name in suite.checks}, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("check", "what it asserts", box=None, pad_edge=False)
    for name in suite.checks:
        table.add_row(name, suite.describe(name).replace("[", r"\["))
    Console().print(table)


_COLOURS = {"passed": "green", "failed": "bold red", "waived": "yellow", "not applicable": "dim"}


def _show(card: "Card") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("", "check", "detail", box=None, pad_edge=False, title=f"{card.name} ({card.family})", title_justify="left")
    for result in card.results:
        colour = _COLOURS[result.status]
        table.add_row(Text(result.status, colour), result.check, Text(result.detail, "" if result.status == "failed" else "dim"))
    console = Console()
    console.print(table)
    seconds = sum(result.seconds for result in card.results)
    counts = ", ".join(f"{count} {status}" for status, count in card.counts.items() if count)
    console.print(Text(f"{counts} in {seconds:.1f} s", "green" if card.passed else "red"))
