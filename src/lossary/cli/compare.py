"""``lossary compare``: which objective is best on these data, and how sure is that?"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lossary.cli._output import said_when_stopped
from lossary.errors import InvalidValueError

if TYPE_CHECKING:
    from rich.console import Console

    from lossary.arena import Across, Comparison, Data
    from lossary.arena.train.engine import Event


def compare(
    data: Annotated[
        list[str],
        typer.Argument(
            help="digits, breast_cancer, wine, iris, diabetes; a .csv, .parquet, .arrow, .npz or .svm file; a folder of images."
        ),
    ],
    target: Annotated[
        str | None, typer.Option("--target", "-t", help="The column of a file to predict; several labels with commas.")
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help="binary, multiclass, multilabel or regression, if not what the target looks like; or retrieval."),
    ] = None,
    group: Annotated[str | None, typer.Option(help="A column whose rows belong together and stay on one side of a split.")] = None,
    query: Annotated[str | None, typer.Option(help="A column that names the list of each row, to rank the rows of a list.")] = None,
    max_rows: Annotated[int, typer.Option(help="Of a larger file, a random sample of so many rows is read.")] = 200_000,
    image_size: Annotated[int, typer.Option(help="Images are brought to so many pixels a side.")] = 32,
    objective: Annotated[
        list[str] | None, typer.Option("--objective", "-o", help='An objective, such as focal or "focal(gamma=3.0)"; repeat it.')
    ] = None,
    baseline: Annotated[str | None, typer.Option(help="The objective that the others are held against.")] = None,
    metric: Annotated[
        str | None, typer.Option(help="What decides: accuracy, auroc, log_loss, rmse, recall_at_1, ndcg_at_10, ...")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Repetitions, each with its own split, first weights and batch order.")] = 5,
    learning_rate: Annotated[
        list[float] | None, typer.Option("--learning-rate", "-l", help="A learning rate to try, the same for all; repeat it.")
    ] = None,
    trials: Annotated[
        int, typer.Option(help="Draw so many trials of the rate and of each objective's own hyper-parameters, instead of a grid.")
    ] = 0,
    epochs: Annotated[int, typer.Option(help="Passes over the training part.")] = 60,
    batch_size: Annotated[int | None, typer.Option(help="Rows in a step; by default it follows the size of the data.")] = None,
    patience: Annotated[int, typer.Option(help="End a run after so many epochs without improvement; 0 never does.")] = 0,
    model: Annotated[str | None, typer.Option(help="mlp, linear, cnn (for images), or your own as module:factory.")] = None,
    hidden: Annotated[int, typer.Option(help="Width of the mlp, or channels of the cnn.")] = 64,
    engine: Annotated[str, typer.Option(help="local, or ray for a cluster.")] = "local",
    workers: Annotated[int, typer.Option(help="Processes of the local engine.")] = 1,
    track: Annotated[list[str] | None, typer.Option(help="Also write to mlflow or tensorboard; repeat it.")] = None,
    export: Annotated[list[str] | None, typer.Option(help="Also write the numbers as csv, parquet, json or md; repeat it.")] = None,
    out: Annotated[Path, typer.Option(help="The folder for the report and for finished work.")] = Path("lossary-results"),
    json_: Annotated[bool, typer.Option("--json", help="Print the result for programs on standard output.")] = False,
) -> None:
    """Compare objectives on your data: the same splits, first weights, batches and tuning budget for each.

    Finished work is kept in the folder --out; the same command again, or after Ctrl-C, goes on from there.
    """
    with said_when_stopped("objectives are"):
        from rich.console import Console

        from lossary import arena
        from lossary.arena.answer.export import check_suffix
        from lossary.arena.answer.report import write_across
        from lossary.arena.answer.tracking import check_tracker
        from lossary.arena.answer.tracking import track as write_to

        for tracker in track or ():
            check_tracker(tracker)
        for suffix in export or ():
            check_suffix(f".{suffix.lstrip('.')}")
        _check_names(data)
        loaded = []
        for source in data:  # all of them, before any training
            found = arena.load(source, target, task, group=group, query=query, max_rows=max_rows, image_size=image_size)
            _check_place(found, out, export or ())
            loaded.append(found)
        results = []
        for found in loaded:
            with _progress(Console(stderr=True), found.name) as tell:
                result = arena.compare(
                    found,
                    objectives=objective or None,
                    baseline=baseline,
                    metric=metric,
                    seeds=seeds,
                    learning_rates=learning_rate or None,
                    trials=trials,
                    epochs=epochs,
                    batch_size=batch_size,
                    patience=patience,
                    model=model,
                    hidden=hidden,
                    engine=engine,
                    workers=workers,
                    store=out / "arena.sqlite",
                    tell=tell,
                )
            path = result.report(out / f"{found.name}.html")
            for suffix in export or ():
                result.export(out / f"{found.name}.{suffix.lstrip('.')}")
            for tracker in track or ():
                write_to(tracker, result.protocol, result.units, result.answer, out)
            results.append((result, path))
            if not json_:
                _show(Console(), result, path)
        across = arena.rank_across([result for result, _ in results]) if len(results) > 1 else None
        if across is not None:
            summary = write_across(across, [result for result, _ in results], out / "across.html")
            if not json_:
                _show_across(Console(), across, summary)
        if json_:
            shown = [{**result.to_dict(), "report": str(path)} for result, path in results]
            whole = shown[0] if across is None else {"comparisons": shown, "across": _across_as_dict(across)}
            typer.echo(json.dumps(whole, indent=2))


def _check_names(data: list[str]) -> None:
    """Refuse, before any training, reports that would be written to one file."""
    paths = [Path(source) for source in data]
    names = [path.resolve().name if path.is_dir() else path.stem for path in paths]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise InvalidValueError(
                f"data sets must differ in name, as their reports do, got {data[names.index(name)]} and {data[place]}"
            )


def _check_place(found: "Data", out: Path, suffixes: Sequence[str]) -> None:
    """Refuse, before any training, to write over the report of other data, or over the data themselves."""
    from lossary.arena import other_source

    report = out / f"{found.name}.html"
    other = other_source(out, found) if report.exists() else ""
    if other:
        raise InvalidValueError(
            f"{report} is the report of {other}, and that of {found.source} would take its place; name another folder with --out"
        )
    for suffix in suffixes:
        path = out / f"{found.name}.{suffix.lstrip('.')}"
        if str(path.resolve()) == found.source:
            raise InvalidValueError(f"--export {suffix} would write over {path}; name another folder with --out")


@contextmanager
def _progress(console: "Console", name: str) -> "Iterator[Callable[[Event], None]]":
    """A bar with the time left on a terminal; elsewhere a line for each finished objective."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("epochs"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        work = bar.add_task(f"preparing {name}", total=None)

        def tell(event: "Event") -> None:
            finished = (event.unit - 1) * event.epochs + event.epoch
            label = f"{event.candidate.label} ({event.unit} of {event.units})"
            bar.update(work, total=event.units * event.epochs, completed=finished, description=label)
            if event.kind != "epoch" and not console.is_terminal:
                console.print(f"{label}: {'taken from earlier work' if event.kind == 'reused' else 'finished'}", highlight=False)

        yield tell


def _show(console: "Console", result: "Comparison", report: Path) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    protocol, rows = result.protocol, result.leaderboard
    largest = max((abs(row.mean) for row in rows if math.isfinite(row.mean)), default=1.0)
    digits = 3 if largest < 10 else max(0, 3 - int(math.log10(largest)))
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("objective", overflow="fold")
    table.add_column(protocol.metric, justify="right")
    table.add_column("better by", justify="right", no_wrap=True)
    table.add_column(f"{protocol.confidence:.0%} interval", justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    words = {
        "better": "[green]better[/]",
        "worse": "[red]worse[/]",
        "no difference shown": "-",
        "could not be trained": "[red]failed[/]",
    }
    for row in rows:
        label, value = escape(row.candidate.label), f"{row.mean:.{digits}f}"
        if row.difference is None:
            table.add_row(label, value, "", "", "baseline", style="bold")
            continue
        d = row.difference
        table.add_row(label, value, f"{d.mean:+.{digits}f}", f"{d.low:+.{digits}f} to {d.high:+.{digits}f}", words[d.verdict])
    console.print(table)
    console.print(escape(result.answer.sentence), highlight=False)
    if result.answer.code:
        console.print(f"  {escape(result.answer.code)}", highlight=False)
    for note in (*result.data.notes, *_notes(result)):
        console.print(f"Note: {escape(note)}.", style="yellow", highlight=False)
    _show_why(console, result)
    console.print(f"Report: {escape(str(report))}", highlight=False, soft_wrap=True)


def _show_why(console: "Console", result: "Comparison") -> None:
    from rich.padding import Padding
    from rich.text import Text

    protocol = result.protocol
    if not protocol.look:
        return
    console.print(Text(f"Why these? {protocol.look}."))
    for label, reason in protocol.why.items():
        console.print(Padding(Text.assemble((label, "bold"), f": {reason}"), (0, 0, 0, 2)))


def _notes(result: "Comparison") -> list[str]:
    notes = []
    for unit in result.units:
        if unit.diverged.any():
            notes.append(f"{unit.diverged.sum()} of {unit.diverged.size} runs of {unit.candidate.label} diverged")
        if unit.candidate.can_fit:
            notes.append(f"{unit.candidate.label} was trained by gradients, with the model: its fit() is no part of a comparison")
        if unit.why_not_batched:
            notes.append(f"{unit.candidate.label} was trained one run at a time: {unit.why_not_batched}")
    return notes


def _show_across(console: "Console", across: "Across", report: Path) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("objective", overflow="fold")
    table.add_column("average rank", justify="right")
    for name in across.data:
        table.add_column(escape(name), justify="right")
    for label, average, ranks in zip(across.objectives, across.average_ranks, across.ranks, strict=True):
        table.add_row(escape(label), f"{average:.2f}", *(f"{rank:g}" for rank in ranks))
    console.print(table)
    console.print(escape(across.sentence), highlight=False)
    console.print(f"Report: {escape(str(report))}", highlight=False, soft_wrap=True)


def _across_as_dict(across: "Across") -> dict[str, object]:
    return {
        "data": across.data,
        "objectives": across.objectives,
        "average_ranks": across.average_ranks.tolist(),
        "ranks": across.ranks.tolist(),
        "p_value": across.p_value,
        "critical_difference": across.critical_difference,
        "answer": across.sentence,
    }
