"""The report's pictures as plain values in Plotly's form; the page adds its own colours for paper, ink and lines.

Names come from the data and from users, and Plotly reads a little markup in texts, so every name passes through :func:`name`.
"""

import html
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lossary.arena.answer.across import Across
from lossary.arena.answer.analysis import Answer, gives_probabilities
from lossary.arena.plan.protocol import Protocol
from lossary.arena.statistics import confidence_and_correctness
from lossary.arena.train.unit_of_work import Unit
from lossary.metrics import ndcg_at_k, reliability_curve

Array = NDArray[Any]
Figure = dict[str, Any]

# Okabe and Ito's colours, which people with any colour vision can tell apart, less the yellow that a white page swallows.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#8c6d31", "#888888")
DASHES = ("solid", "dash", "dot")
GREY = "#888888"
MOST_POINTS = 800  # in a scatter plot; more hide each other
FINEST, FEWEST = 0.03, 8  # width of a reliability curve, and predictions behind a point of it; below, it shows luck
DEEPEST, BLOCK = 20, 1024  # cutoff in a picture of cutoffs; rows whose neighbours are looked for at a time
MOST_GRADES, PLACES = 8, 10  # of relevance that can be told apart, and how far down a list is shown
MOST_CLASSES = 30  # in a confusion matrix; more cannot be read
SURE = [[0.0, "rgba(0,114,178,0)"], [0.1, "rgba(0,114,178,0.25)"], [1.0, "rgba(0,114,178,0.6)"]]  # small errors are to be seen


def name(text: str, longest: int = 44) -> str:
    """A name as text that Plotly shows as it is; parameters go to a line of their own, so that a phone has room."""
    short = text if len(text) <= longest else text[: longest - 1] + "…"
    return html.escape(short, quote=True).replace("(", "<br>(", 1) if len(short) > 16 else html.escape(short, quote=True)


def _values(array: Any) -> list[Any]:
    """Plain numbers; what is not finite becomes a gap."""
    return [_values(inner) if np.ndim(inner) else float(f"{inner:.5g}") if np.isfinite(inner) else None for inner in array]


def _line(number: int) -> dict[str, Any]:
    return {"color": COLOURS[number % len(COLOURS)], "dash": DASHES[number // len(COLOURS) % len(DASHES)]}


def differences(protocol: Protocol, answer: Answer) -> Figure:
    """Paired differences to the baseline with their intervals, best on top."""
    rows = [row for row in reversed(answer.rows) if row.difference is not None and np.isfinite(row.difference.mean)]
    found = [row.difference for row in rows if row.difference is not None]
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": _values([d.mean for d in found]),
        "y": [name(row.candidate.label) for row in rows],
        "marker": {"size": 10, "color": [{"better": "#009e73", "worse": "#d55e00"}.get(d.verdict, GREY) for d in found]},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": _values([d.high - d.mean for d in found]),
            "arrayminus": _values([d.mean - d.low for d in found]),
            "color": GREY,
        },
        "hovertemplate": "%{y}: %{x:.4f}<extra></extra>",
    }
    zero = {"type": "line", "x0": 0, "x1": 0, "yref": "paper", "y0": 0, "y1": 1, "line": {"dash": "dot", "color": GREY}}
    return {
        "data": [trace],
        "layout": {
            "height": 110 + 40 * len(rows),
            "showlegend": False,
            "shapes": [zero],
            "xaxis": {"title": {"text": f"{protocol.metric}: better than the baseline →"}, "zeroline": False},
            "yaxis": {"type": "category"},
        },
    }


def curves(protocol: Protocol, units: Sequence[Unit]) -> Figure:
    """The deciding metric on validation data along training, for the learning rates that were chosen."""
    traces = []
    for number, unit in enumerate(units):
        kept = [unit.curve[seed, rate] for seed, rate in enumerate(unit.chosen) if rate >= 0]
        if kept:
            traces.append(_trace(unit, number, unit.curve_epochs, _mean(np.array(kept))))
    return {"data": traces, "layout": _axes("epoch", f"validation {protocol.metric}")}


def rates(protocol: Protocol, units: Sequence[Unit]) -> Figure:
    """What each learning rate led to on validation data."""
    traces = []
    for number, unit in enumerate(units):
        values = np.where(np.isfinite(unit.validation), unit.validation, np.nan).mean(axis=0)
        traces.append(_trace(unit, number, protocol.learning_rates, values))
    layout = _axes("learning rate", f"validation {protocol.metric}")
    ticks = {"tickvals": list(protocol.learning_rates), "ticktext": [f"{rate:g}" for rate in protocol.learning_rates]}
    few = ticks if len(protocol.learning_rates) <= 8 else {}
    return {"data": traces, "layout": {**layout, "xaxis": {**layout["xaxis"], "type": "log", **few}}}


def _mean(runs: Array) -> Array:
    """Over the runs that were still going on at each point."""
    going = np.isfinite(runs)
    return np.asarray(np.where(going, runs, 0.0).sum(0) / np.where(going.any(0), going.sum(0), np.nan))


def _trace(unit: Unit, number: int, x: Any, y: Any) -> dict[str, Any]:
    line = _line(number)
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name(unit.candidate.label),
        "x": _values(x),
        "y": _values(y),
        "line": line,
        "marker": {"color": line["color"], "size": 5},
    }


def _axes(x: str, y: str) -> Figure:
    return {"xaxis": {"title": {"text": x}}, "yaxis": {"title": {"text": y}}}


def reliability(protocol: Protocol, units: Sequence[Unit], shown: Sequence[str]) -> Figure | None:
    """Smooth reliability diagrams over all seeds' test predictions; what is not ``shown`` waits in the legend."""
    traces: list[dict[str, Any]] = []
    edges = np.linspace(0.0, 1.0, 21)
    for number, unit in enumerate(units):
        if not gives_probabilities(protocol, unit):
            continue
        shape = unit.predictions.shape
        truth = unit.truth.reshape(-1, *unit.truth.shape[2:])
        sure, right = confidence_and_correctness(truth, unit.predictions.reshape(-1, *shape[2:]))
        curve = reliability_curve(torch.from_numpy(sure), torch.from_numpy(right), level=None)
        if curve.bandwidth < FINEST:
            curve = reliability_curve(torch.from_numpy(sure), torch.from_numpy(right), FINEST, level=None)
        near = curve.density.numpy() * len(sure) * curve.bandwidth * 3.5  # how many predictions a point rests on, 2 sqrt(pi) s n
        near = np.where((curve.confidence.numpy() >= sure.min()) & (curve.confidence.numpy() <= sure.max()), near, 0)
        share = np.histogram(np.clip(sure, 0, 1), edges)[0] / len(sure)
        label = unit.candidate.label
        both = {"legendgroup": str(number), "visible": True if label in shown else "legendonly", "name": name(label)}
        traces.append(
            {
                **both, "type": "scatter", "mode": "lines", "line": {**_line(number), "width": 3},
                "x": _values(curve.confidence.numpy()),
                "y": _values(np.where(near >= FEWEST, curve.accuracy.numpy(), np.nan)),
                "hovertemplate": "confidence %{x:.2f}, right %{y:.2f}",
            }
        )  # fmt: skip
        traces.append(
            {
                **both, "type": "bar", "showlegend": False, "yaxis": "y2", "opacity": 0.55, "width": 0.05,
                "x": _values((edges[1:] + edges[:-1]) / 2), "y": _values(share),
                "marker": {"color": COLOURS[number % len(COLOURS)]}, "hovertemplate": "%{y:.1%} of predictions",
            }
        )  # fmt: skip
    if not traces:
        return None
    what = "share of true labels" if protocol.task.kind == "multilabel" else "share that was right"
    diagonal = {"type": "line", "x0": 0, "y0": 0, "x1": 1, "y1": 1, "layer": "below", "line": {"dash": "dot", "color": GREY}}
    return {
        "data": traces,
        "layout": {
            "height": 560,
            "barmode": "overlay",
            "shapes": [diagonal],
            "xaxis": {"title": {"text": "confidence"}, "range": [0, 1], "anchor": "y2"},
            "yaxis": {"title": {"text": what}, "range": [0, 1.02], "domain": [0.3, 1.0]},
            "yaxis2": {"title": {"text": "predictions"}, "tickformat": ".0%", "domain": [0.0, 0.22], "rangemode": "tozero"},
        },
    }


def confusion(classes: Sequence[str], unit: Unit) -> Figure | None:
    """How often each class is taken for which, rows summing to one, over all seeds' test predictions."""
    if not 2 <= len(classes) <= MOST_CLASSES or unit.predictions.ndim != 3 or not np.isfinite(unit.predictions).all():
        return None
    count = len(classes)
    pairs = unit.truth.astype(np.int64).ravel() * count + unit.predictions.argmax(-1).ravel()
    table = np.bincount(pairs, minlength=count * count).reshape(count, count).astype(np.float64)
    shares = table / np.maximum(table.sum(1, keepdims=True), 1)
    ticks = {
        "tickvals": list(range(count)),
        "ticktext": [name(label, 14) for label in classes],
        "showgrid": False,
        "zeroline": False,
    }
    heat: dict[str, Any] = {
        "type": "heatmap", "z": _values(shares), "zmin": 0, "zmax": 1, "colorscale": SURE, "showscale": False, "xgap": 1, "ygap": 1,
        "hovertemplate": "%{y} taken for %{x}: %{z:.1%}<extra></extra>",
    }  # fmt: skip
    if count <= 12:
        text = [[f"{100 * share:.0f}" if share >= 0.005 else "" for share in row] for row in shares]
        heat |= {"text": text, "texttemplate": "%{text}"}
    return {
        "data": [heat],
        "layout": {
            "height": 400 if count <= 12 else 520,
            "showlegend": False,
            "xaxis": {"title": {"text": "predicted"}, **ticks, "tickangle": 0 if count <= 10 and _short(classes) else -60},
            "yaxis": {"title": {"text": "true"}, **ticks, "autorange": "reversed"},
        },
    }


def _short(classes: Sequence[str]) -> bool:
    return max(len(label) for label in classes) <= 3


def predicted_against_true(data_name: str, units: Sequence[Unit], shown: Sequence[str]) -> Figure | None:
    """Every test prediction of a regression against what was true; on the dotted line it is exact."""
    traces: list[dict[str, Any]] = []
    ends: list[float] = []
    for number, unit in enumerate(units):
        usable = np.isfinite(unit.predictions) & (unit.chosen >= 0)[:, None]
        truth, predicted = unit.truth[usable], unit.predictions[usable]
        if not len(truth):
            continue
        kept = np.random.default_rng(0).permutation(len(truth))[:MOST_POINTS]  # the same rows for every objective
        label = unit.candidate.label
        ends += [float(truth[kept].min()), float(truth[kept].max())]
        traces.append(
            {
                "type": "scatter", "mode": "markers", "name": name(label), "visible": True if label in shown else "legendonly",
                "x": _values(truth[kept]), "y": _values(predicted[kept]),
                "marker": {"color": COLOURS[number % len(COLOURS)], "size": 5, "opacity": 0.6},
            }
        )  # fmt: skip
    if not traces:
        return None
    exact = {"x0": min(ends), "y0": min(ends), "x1": max(ends), "y1": max(ends)}
    line = {"type": "line", **exact, "line": {"dash": "dot", "color": GREY}}
    return {"data": traces, "layout": {"height": 480, "shapes": [line], **_axes(f"true {name(data_name)}", "predicted")}}


def cutoffs(protocol: Protocol, units: Sequence[Unit]) -> Figure | None:
    """How a retrieval or a ranking fares at each cutoff, over all seeds' test parts."""
    found = _recalls if protocol.task.kind == "retrieval" else _ndcgs
    traces = []
    for number, unit in enumerate(units):
        kept = [place for place, rate in enumerate(unit.chosen) if rate >= 0 and np.isfinite(unit.predictions[place]).all()]
        if kept:
            values = np.mean([found(unit.truth[place], unit.predictions[place]) for place in kept], axis=0)
            traces.append(_trace(unit, number, range(1, len(values) + 1), values))
    label = "recall at k" if protocol.task.kind == "retrieval" else "NDCG at k"
    return {"data": traces, "layout": _axes("k", label)} if traces else None


def _recalls(truth: Array, embedding: Array) -> Array:
    """The share of rows that have one of their class among the k nearest others, for each k."""
    rows, classes = torch.from_numpy(embedding), torch.from_numpy(truth)
    ranks = []
    for start in range(0, len(rows), BLOCK):
        cosine = rows[start : start + BLOCK] @ rows.T
        alike = classes[start : start + BLOCK, None] == classes
        own = torch.arange(len(cosine))
        cosine[own, own + start] = -torch.inf  # no row finds itself
        nearest = cosine.masked_fill(~alike, -torch.inf).amax(1, keepdim=True)
        ranks.append((cosine > nearest).sum(1))
    rank = torch.cat(ranks)
    return np.array([float((rank < k).double().mean()) for k in range(1, min(DEEPEST, len(rows) - 1) + 1)])


def _ndcgs(truth: Array, scores: Array) -> Array:
    given, relevance, mask = torch.from_numpy(scores), torch.from_numpy(truth).clamp_min(0), torch.from_numpy(truth >= 0)
    return np.array([float(ndcg_at_k(given, relevance, k, mask)) for k in range(1, min(DEEPEST, truth.shape[1]) + 1)])


def embedding_map(classes: Sequence[str], unit: Unit) -> Figure | None:
    """The first seed's test rows of a few classes along the two directions in which their embeddings vary most."""
    if unit.chosen[0] < 0 or not np.isfinite(unit.predictions[0]).all() or unit.predictions.shape[2] < 2:
        return None
    truth = unit.truth[0]
    names, counts = np.unique(truth, return_counts=True)
    shown = np.sort(names[np.argsort(-counts, kind="stable")[: len(COLOURS)]])
    rows = np.flatnonzero(np.isin(truth, shown))
    rows = np.sort(np.random.default_rng(0).permutation(rows)[:MOST_POINTS])
    centred = unit.predictions[0][rows].astype(np.float64)
    centred -= centred.mean(0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:2]
    axes *= np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(1)])[:, None]  # else the sign is up to the library
    place = centred @ axes.T
    traces = [
        {
            "type": "scatter", "mode": "markers", "name": name(classes[label], 20),
            "x": _values(place[truth[rows] == label, 0]), "y": _values(place[truth[rows] == label, 1]),
            "marker": {"color": COLOURS[number], "size": 5, "opacity": 0.7}, "hoverinfo": "name",
        }
        for number, label in enumerate(shown)
    ]  # fmt: skip
    bare = {"showticklabels": False, "zeroline": False, "title": {"text": ""}}
    return {"data": traces, "layout": {"height": 420, "xaxis": bare, "yaxis": {**bare, "scaleanchor": "x"}}}


def grades_by_place(unit: Unit) -> Figure | None:
    """Which relevance the items have that a ranking puts in each place; over all seeds' test lists that are so long."""
    kept = unit.chosen >= 0
    if not kept.any() or not np.isfinite(unit.predictions[kept]).all():
        return None
    truth, scores = (values[kept].reshape(-1, values.shape[2]) for values in (unit.truth, unit.predictions))
    grades = np.unique(truth[truth >= 0])
    if len(grades) > MOST_GRADES:
        return None
    order = np.argsort(np.where(truth >= 0, -scores, np.inf), axis=1, kind="stable")[:, :PLACES]
    placed = np.take_along_axis(truth, order, 1)
    there = np.maximum((placed >= 0).sum(0), 1)
    traces = [
        {
            "type": "bar", "name": f"relevance {grade:g}", "x": list(range(1, placed.shape[1] + 1)),
            "y": _values((placed == grade).sum(0) / there), "marker": {"color": _shade(number, len(grades))},
            "hovertemplate": f"place %{{x}}: %{{y:.1%}} have relevance {grade:g}<extra></extra>",
        }
        for number, grade in reversed(list(enumerate(grades)))
    ]  # fmt: skip
    layout = {"height": 400, "barmode": "stack", "bargap": 0.1, **_axes("place in the list", "share of lists")}
    layout["yaxis"] |= {"tickformat": ".0%", "range": [0, 1]}
    layout["xaxis"] |= {"dtick": 1}
    return {"data": traces, "layout": layout}


def _shade(number: int, count: int) -> str:
    """From grey for nothing to full blue for the most relevant."""
    return "rgba(136,136,136,0.25)" if number == 0 else f"rgba(0,114,178,{0.2 + 0.8 * number / (count - 1):.2f})"


def critical_difference_diagram(across: Across) -> Figure:
    """Average ranks, best on top; a bar below spans objectives that were not shown to differ."""
    count = len(across.objectives)
    places = dict(zip(across.objectives, across.average_ranks.tolist(), strict=True))
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter", "mode": "markers", "x": _values(across.average_ranks), "y": list(range(count)),
            "marker": {"size": 11, "color": [COLOURS[place % len(COLOURS)] for place in range(count)]},
            "hovertemplate": "average rank %{x:.2f}<extra></extra>",
        }
    ]  # fmt: skip
    bars = [("not shown to differ", places[group[0]], places[group[-1]]) for group in across.groups]
    bars.append((f"critical difference {across.critical_difference:.2f}", 1.0, 1.0 + across.critical_difference))
    for row, (said, start, end) in enumerate(bars, start=count):
        traces.append(
            {
                "type": "scatter", "mode": "lines", "x": _values([start, end]), "y": [row, row],
                "line": {"width": 6, "color": GREY}, "hovertemplate": said + "<extra></extra>",
            }
        )  # fmt: skip
    labels = [*(name(label) for label in across.objectives), *(said.replace(" ", "<br>", 1) for said, _, _ in bars)]
    ticks = {"tickvals": list(range(len(labels))), "ticktext": labels, "range": [len(labels) - 0.5, -0.5], "zeroline": False}
    right = max(float(count), 1 + across.critical_difference) + 0.1
    return {
        "data": traces,
        "layout": {
            "height": 90 + 40 * len(labels),
            "showlegend": False,
            "xaxis": {"title": {"text": "average rank, 1 is best"}, "range": [0.9, right]},
            "yaxis": ticks,
        },
    }


def performance_profile(across: Across) -> Figure:
    """On what share of the data sets an objective loses at most so much of the best."""
    finite = across.gaps[np.isfinite(across.gaps)]
    gaps = np.unique(np.concatenate([[0.0], finite]))
    traces = []
    for number, label in enumerate(across.objectives):
        shares = [across.profile(gap + 1e-12)[number] for gap in gaps]
        line = {**_line(number), "shape": "hv"}
        traces.append(
            {"type": "scatter", "mode": "lines", "name": name(label), "x": _values(gaps), "y": _values(shares), "line": line}
        )
    layout = _axes("loss to the best, at most", "share of data sets")
    layout["xaxis"] |= {"tickformat": ".1%", "rangemode": "tozero"}
    layout["yaxis"] |= {"tickformat": ".0%", "range": [0, 1.02]}
    return {"data": traces, "layout": layout}
