"""The command line: arguments and printing only. Each command is a module here; torch is imported where it is needed."""

import sys
from typing import Annotated

import typer

import lossary
from lossary.cli.check import check
from lossary.cli.claim import claim
from lossary.cli.compare import compare
from lossary.cli.find import find
from lossary.cli.list import list_
from lossary.cli.papers import papers
from lossary.cli.show import show
from lossary.errors import LossaryError

app = typer.Typer(
    name="lossary",
    help="The working glossary of training objectives: find one, show it, check one, compare them on your data, and see whether"
    " what a paper claims holds.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help; importing rich would double the time of every answer
)


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"lossary {lossary.__version__}\n")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None: ...


app.command()(compare)
app.command()(find)
app.command()(show)
app.command("list")(list_)
app.command()(papers)
app.command()(check)
app.command()(claim)


def main() -> None:
    """Run the command line: exit code 0 for yes, 1 for no, 2 for misuse."""
    try:
        app()
    except LossaryError as error:
        sys.stderr.write(f"lossary: {error}\n")
        sys.exit(2)
