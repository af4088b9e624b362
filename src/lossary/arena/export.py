"""A comparison as plain values, for programs."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from lossary.arena.analysis import Answer
from lossary.arena.data import Data
from lossary.arena.protocol import Protocol
from lossary.arena.run import Unit


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
                "code": row.candidate.code,
                "mean": row.mean,
                "deviation": row.deviation,
                "difference": None if row.difference is None else asdict(row.difference),
                "learning_rate": row.learning_rate,
                "test": row.test,
                "diverged_runs": row.diverged,
                "seconds": row.seconds,
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
