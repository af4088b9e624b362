"""The report of a comparison: one HTML file that needs nothing else, answer first."""

import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import jinja2
import numpy as np
import torch
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

import lossary
from lossary.arena.answer import figures
from lossary.arena.answer.across import Across, Compared
from lossary.arena.answer.analysis import CALIBRATION, Answer
from lossary.arena.data.dataset import Data
from lossary.arena.plan.protocol import Protocol
from lossary.arena.train.unit_of_work import Unit
from lossary.errors import StoreError


def write_report(data: Data, protocol: Protocol, units: Sequence[Unit], answer: Answer, path: Path) -> Path:
    """The report of one comparison."""
    return _write(
        "report.html",
        path,
        _figures(protocol, units, answer, data.classes, data.target_name),
        data=data,
        protocol=protocol,
        answer=answer,
        units=units,
        metrics=[metric.name for metric in protocol.task.metrics if metric.name not in CALIBRATION],
        calibration=CALIBRATION if protocol.task.of_probabilities else (),
        shown=_notable(protocol, answer),
        facts={
            "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "lossary": lossary.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "machine": f"{platform.machine()}, {os.cpu_count()} processors",
        },
    )


def write_across(across: Across, comparisons: Sequence[Compared], path: Path) -> Path:
    """The report of several comparisons."""
    drawn = {"ranks": figures.critical_difference_diagram(across), "profile": figures.performance_profile(across)}
    return _write("across.html", path, drawn, across=across, comparisons=comparisons)


def _write(template: str, path: Path, drawn: Mapping[str, figures.Figure], **values: object) -> Path:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters |= {
        "number": _number,
        "milliseconds": _milliseconds,
        "megabytes": _megabytes,
        "broken": _broken,
        "words": _words,
    }
    scripts = {place: _for_script(figure) for place, figure in drawn.items()}
    page = environment.get_template(template).render(figures=scripts, plotly=get_plotlyjs(), **values)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise StoreError(f"the report cannot be written to {path}: {error.strerror}") from error
    return path


def _notable(protocol: Protocol, answer: Answer) -> tuple[str, ...]:
    """The baseline and the best other objective: what a reader wants to see side by side."""
    others = [row.candidate.label for row in answer.rows if row.difference is not None and np.isfinite(row.mean)]
    return (protocol.baseline.label, *others[:1])


def _figures(
    protocol: Protocol, units: Sequence[Unit], answer: Answer, classes: Sequence[str], target: str
) -> Mapping[str, figures.Figure]:
    """The pictures of one comparison by the id of their place on the page."""
    shown = _notable(protocol, answer)
    by_label = {unit.candidate.label: unit for unit in units}
    found: dict[str, figures.Figure | None] = {
        "differences": figures.differences(protocol, answer),
        "curves": figures.curves(protocol, units),
        "rates": figures.rates(protocol, units) if len(protocol.learning_rates) > 1 else None,
        "reliability": figures.reliability(protocol, units, shown),
    }
    if protocol.task.kind in ("binary", "multiclass"):
        found |= {f"confusion-{place}": figures.confusion(classes, by_label[label]) for place, label in enumerate(shown)}
    if protocol.task.kind == "regression":
        found["predicted"] = figures.predicted_against_true(target, units, shown)
    if protocol.task.kind in ("retrieval", "ranking"):
        found["cutoffs"] = figures.cutoffs(protocol, units)
        for place, label in enumerate(shown):
            unit = by_label[label]
            ranked = protocol.task.kind == "ranking"
            found[f"seen-{place}"] = figures.grades_by_place(unit) if ranked else figures.embedding_map(classes, unit)
    return {place: figure for place, figure in found.items() if figure is not None}


def _for_script(figure: figures.Figure) -> str:
    """JSON that may stand inside a script element whatever the names in it."""
    return json.dumps(figure, allow_nan=False).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


NOTHING = "\N{EN DASH}"
LONG = 20  # what stands between the brackets of a label


def _number(value: float, form: str = "%.4f") -> str:
    """A dash where there is nothing to say."""
    return form % value if math.isfinite(value) else NOTHING


def _broken(label: str) -> Markup:
    """Parameters may go to a line of their own, and long values of them to several."""
    name, *given = label.split("(", 1)
    parts = (Markup("=<wbr>").join(map(_words, part.split("="))) if len(part) > LONG else escape(part) for part in given)
    return Markup("<wbr>(").join([escape(name), *parts])


def _words(name: str) -> Markup:
    """A metric's name that may be broken after each word."""
    return Markup("_<wbr>").join(escape(part) for part in name.split("_"))


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.3g}" if seconds > 0 else NOTHING


def _megabytes(size: int) -> str:
    return f"{size / 2**20:.3g}" if size < 2**20 * 999 else f"{size / 2**20:.0f}"
