"""A comparison as plain values, for programs, and as a file."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from lossary.arena.answer.analysis import Answer
from lossary.arena.data.dataset import Data
from lossary.arena.plan.protocol import Protocol
from lossary.arena.train.unit_of_work import Unit
from lossary.errors import StoreError, UnknownNameError

Writer = Callable[[Data, Protocol, Sequence[Unit], Answer, Path], None]


def export(data: Data, protocol: Protocol, units: Sequence[Unit], answer: Answer, path: Path) -> Path:
    """Write a comparison as what the file's name ends in: every seed's numbers, or in Markdown the leaderboard."""
    check_suffix(path.suffix)
    write = WRITERS[path.suffix.lower()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(data, protocol, units, answer, path)
    except OSError as error:
        raise StoreError(f"the comparison cannot be written to {path}: {error.strerror or error}") from error
    return path


def check_suffix(suffix: str) -> None:
    """Refuse, before any training, what cannot be written afterwards."""
    if suffix.lower() not in WRITERS:
        raise UnknownNameError(f"a comparison can be written as {', '.join(WRITERS)}, got {suffix!r}")


def seeds_table(protocol: Protocol, units: Sequence[Unit]) -> pa.Table:
    """One row for each objective and seed: the chosen rate, every metric on test data, and the difference to the baseline."""
    metric = protocol.task.metric(protocol.metric)
    base = next(unit for unit in units if unit.candidate == protocol.baseline)
    sign = 1.0 if metric.greater_is_better else -1.0
    columns: dict[str, list[Any]] = {"objective": [], "parameters": [], "baseline": [], "seed": [], "learning_rate": []}
    columns |= {f"test_{judge.name}": [] for judge in protocol.task.metrics} | {"better_by": []}
    for unit in units:
        better = sign * (unit.test[metric.name] - base.test[metric.name])
        for place, seed in enumerate(protocol.seeds):
            chosen = int(unit.chosen[place])
            columns["objective"].append(unit.candidate.objective)
            own = protocol.trials(unit.candidate)[chosen] if chosen >= 0 else {}
            columns["parameters"].append(json.dumps(_plain({**unit.candidate.parameters, **own})))
            columns["baseline"].append(unit is base)
            columns["seed"].append(seed)
            columns["learning_rate"].append(protocol.learning_rates[chosen] if chosen >= 0 else None)
            for judge in protocol.task.metrics:
                columns[f"test_{judge.name}"].append(_plain(unit.test[judge.name][place]))
            columns["better_by"].append(None if unit is base else _plain(better[place]))
    numbers = {name for name in columns if name.startswith("test_") or name in ("learning_rate", "better_by")}
    return pa.table({name: pa.array(values, pa.float64()) if name in numbers else values for name, values in columns.items()})


def _write_csv(data: Data, protocol: Protocol, units: Sequence[Unit], answer: Answer, path: Path) -> None:
    pyarrow.csv.write_csv(seeds_table(protocol, units), path)


def _write_parquet(data: Data, protocol: Protocol, units: Sequence[Unit], answer: Answer, path: Path) -> None:
    pyarrow.parquet.write_table(seeds_table(protocol, units), path)


def _write_json(data: Data, protocol: Protocol, units: Sequence[Unit], answer: Answer, path: Path) -> None:
    path.write_text(json.dumps(as_dict(data, protocol, units, answer), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _write_markdown(data: Data, protocol: Protocol, units: Sequence[Unit], answer: Answer, path: Path) -> None:
    lines = [
        _cell(answer.sentence),
        "",
        f"| objective | {protocol.metric} | better by | interval | p | verdict |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for row in answer.rows:
        d = row.difference
        cells = ["", "", "", "baseline"]
        if d is not None:
            interval = f"{d.low:+.4f} to {d.high:+.4f}" if np.isfinite(d.low) else "-"
            cells = [f"{d.mean:+.4f}" if np.isfinite(d.mean) else "-", interval, f"{d.p_value:.2g}", d.note or d.verdict]
        mean = f"{row.mean:.4f}" if np.isfinite(row.mean) else "-"
        lines.append(f"| {' | '.join(_cell(cell) for cell in (row.candidate.label, mean, *cells))} |")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _cell(text: str) -> str:
    """Names come from the data: in a table of Markdown they are only names."""
    for mark in ("\\", "|", "<", "*", "`", "["):
        text = text.replace(mark, "\\" + mark)
    return " ".join(text.split())


WRITERS: dict[str, Writer] = {".csv": _write_csv, ".parquet": _write_parquet, ".json": _write_json, ".md": _write_markdown}


def as_dict(data: Data, protocol: Protocol, units: Sequence[Unit], answer: Answer) -> dict[str, object]:
    by_label = {unit.candidate.label: unit for unit in units}
    metric = protocol.metric
    rows = []
    for row in answer.rows:
        unit = by_label[row.candidate.label]
        rows.append(
            {
                "objective": row.candidate.objective,
                "parameters": dict(row.candidate.parameters),
                "label": row.candidate.label,
                "reason": row.reason,
                "code": row.code,
                "tuned": row.tuned,
                "mean": row.mean,
                "deviation": row.deviation,
                "variance": row.variance,
                "difference": None if row.difference is None else asdict(row.difference),
                "learning_rate": row.learning_rate,
                "test": row.test,
                "calibration": row.calibration,
                "diverged_runs": row.diverged,
                "seconds": row.seconds,
                "seconds_per_step": row.seconds_per_step or None,
                "peak_memory_bytes": row.peak_memory,
                "batched": unit.batched,
                "reused": unit.reused,
                "seeds": [
                    {
                        "seed": seed,
                        "learning_rate": protocol.learning_rates[unit.chosen[i]] if unit.chosen[i] >= 0 else None,
                        "validation": unit.validation[i].tolist(),
                        metric: unit.test[metric][i],
                    }
                    for i, seed in enumerate(protocol.seeds)
                ],
            }
        )
    result = {
        "answer": answer.sentence,
        "recommended": None if answer.recommended is None else answer.recommended.label,
        "metric": metric,
        "baseline": protocol.baseline.label,
        "leaderboard": rows,
        "protocol": protocol.to_dict(),
        "digest": protocol.digest,
        "data": {"name": data.name, "rows": data.rows, "columns": len(data.columns), "task": str(data.task), "notes": data.notes},
    }
    cleaned = _plain(result)
    assert isinstance(cleaned, dict)
    return cleaned


def _plain(value: Any) -> Any:
    """JSON has no NaN and no NumPy numbers."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
