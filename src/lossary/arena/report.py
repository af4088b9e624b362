"""The report of a comparison: one HTML file that needs nothing else, answer first."""

import json
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import jinja2
import numpy as np
import plotly.graph_objects as go
import torch
from plotly.offline import get_plotlyjs

import lossary
from lossary.arena.analysis import Answer
from lossary.arena.data import Data
from lossary.arena.protocol import Protocol
from lossary.arena.run import Unit
from lossary.errors import StoreError

# Okabe and Ito's colours, which people with any colour vision can tell apart, less the yellow that a white page swallows.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#8c6d31", "#888888")


def write_report(data: Data, protocol: Protocol, units: Sequence[Unit], answer: Answer, path: Path) -> Path:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    figures = {
        "differences": _differences(protocol, answer),
        "curves": _curves(protocol, units),
        "rates": _rates(protocol, units),
    }
    page = environment.get_template("report.html").render(
        data=data,
        protocol=protocol,
        answer=answer,
        units=units,
        metrics=[metric.name for metric in protocol.task.metrics],
        figures={name: _for_script(figure) for name, figure in figures.items()},
        plotly=get_plotlyjs(),
        facts={
            "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "lossary": lossary.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "machine": f"{platform.machine()}, {os.cpu_count()} processors",
        },
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise StoreError(f"the report cannot be written to {path}: {error.strerror}") from error
    return path


def _for_script(figure: go.Figure) -> str:
    """JSON that may stand inside a script element whatever the names in it."""
    return json.dumps(json.loads(figure.to_json())).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _differences(protocol: Protocol, answer: Answer) -> go.Figure:
    rows = [row for row in reversed(answer.rows) if row.difference is not None and np.isfinite(row.difference.mean)]
    found = [row.difference for row in rows if row.difference is not None]
    figure = go.Figure(
        go.Scatter(
            x=[d.mean for d in found],
            y=[row.candidate.label for row in rows],
            mode="markers",
            marker={"size": 10, "color": [{"better": "#009e73", "worse": "#d55e00"}.get(d.verdict, "#888888") for d in found]},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [d.high - d.mean for d in found],
                "arrayminus": [d.mean - d.low for d in found],
                "color": "#888888",
            },
            hovertemplate="%{y}: %{x:.4f}<extra></extra>",
        )
    )
    figure.add_vline(x=0, line_dash="dot", line_color="#888888")
    figure.update_xaxes(title=f"{protocol.metric}, better than {protocol.baseline.label} →", zeroline=False)
    figure.update_layout(height=130 + 34 * len(rows), showlegend=False)
    return figure


def _curves(protocol: Protocol, units: Sequence[Unit]) -> go.Figure:
    figure = go.Figure()
    for number, unit in enumerate(units):
        kept = [unit.curve[seed, rate] for seed, rate in enumerate(unit.chosen) if rate >= 0]
        if kept:
            figure.add_scatter(
                x=unit.curve_epochs, y=np.mean(kept, axis=0), name=unit.candidate.label, mode="lines+markers",
                line_color=COLOURS[number % len(COLOURS)],
            )  # fmt: skip
    figure.update_xaxes(title="epoch")
    figure.update_yaxes(title=f"validation {protocol.metric}")
    return figure


def _rates(protocol: Protocol, units: Sequence[Unit]) -> go.Figure:
    figure = go.Figure()
    for number, unit in enumerate(units):
        values = np.where(np.isfinite(unit.validation), unit.validation, np.nan).mean(axis=0)
        figure.add_scatter(
            x=protocol.learning_rates,
            y=values,
            name=unit.candidate.label,
            mode="lines+markers",
            line_color=COLOURS[number % len(COLOURS)],
        )
    figure.update_xaxes(
        title="learning rate",
        type="log",
        tickvals=protocol.learning_rates,
        ticktext=[f"{rate:g}" for rate in protocol.learning_rates],
    )
    figure.update_yaxes(title=f"validation {protocol.metric}")
    return figure
