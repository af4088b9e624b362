"""A claim's picture, and the page and the file of published verdicts: all of it made from outcomes, nothing typed by hand."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import jinja2

from lossary.catalogue import entry as paper_of
from lossary.claims import names
from lossary.claims._rules import Finding, Verdict
from lossary.claims._run import Outcome, Result, load

_PUBLISHED = ("paper", "statement", "verdict", "digest", "confidence", "note", "seconds")
_LEFT, _RIGHT = 24, 736  # of a picture's axes


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=lambda name: name is not None and name.endswith(".svg"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def number(value: float) -> str:
    """Three digits are what a reader can use; a count stays one."""
    if not math.isfinite(value):
        return "none"
    return f"{value:.0f}" if value == round(value) and abs(value) < 1e6 else f"{value:#.3g}".rstrip(".")


def signed(value: float) -> str:
    return number(value) if value < 0 else f"+{number(value)}"


def numbers(finding: Finding) -> str:
    """What was found for a rule, in a line."""
    if finding.note:
        return finding.note
    if not finding.differences:
        deviations = f"deviation {number(finding.arm)} against {number(finding.than)}"
        return f"{deviations}, ratio {number(finding.difference)} ({number(finding.low)} to {number(finding.high)})"
    found = f"{number(finding.arm)} against {number(finding.than)}, difference {signed(finding.difference)}"
    return found if len(finding.differences) == 1 else f"{found} ({signed(finding.low)} to {signed(finding.high)})"


def picture(outcome: Outcome) -> str:
    """An SVG with a row for each rule: differences of the seeds, their mean with its interval, the limit and the claimed side."""
    top, blocks = 64, []
    for result in outcome.results:
        rows = []
        for finding, kind in zip(result.findings, _kinds(outcome, result), strict=True):
            rows.append({"top": top + 30, **_axis(finding, kind), "finding": finding})
            top += 84
        blocks.append({"title": result.title, "top": top - 84 * len(rows) + 14, "rows": rows})
        top += 34
    return _environment().get_template("picture.svg").render(outcome=outcome, blocks=blocks, height=top - 14)


def _kinds(outcome: Outcome, result: Result) -> list[str]:
    place = outcome.results.index(result)
    return [rule.kind for rule in outcome.claim.experiments[place].rules]


def _axis(finding: Finding, kind: str) -> dict[str, Any]:
    """Positions on an axis that shows the limit, the interval and every seed; the claimed side of the limit is from..to."""
    limits = [-finding.limit, finding.limit] if kind == "same" else [finding.limit]
    shown = [*limits, finding.difference, finding.low, finding.high, *finding.differences]
    shown = [value for value in shown if math.isfinite(value)]
    low, high = min(shown), max(shown)
    margin = 0.06 * (high - low) or max(abs(high), 1e-9)
    low, high = low - margin, high + margin

    def at(value: float) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * (min(max(value, low), high) - low) / (high - low), 1)

    claimed = {"higher": (finding.limit, high), "same": (-finding.limit, finding.limit)}.get(kind, (low, finding.limit))
    drawn = math.isfinite(finding.difference)
    return {
        "claimed": (at(claimed[0]), at(claimed[1])),
        "limits": [(at(limit), number(limit)) for limit in limits],
        "dots": [at(value) for value in finding.differences] if len(finding.differences) > 1 else [],
        "interval": (at(finding.low), at(finding.high)) if drawn else None,
        "mean": at(finding.difference) if drawn else None,
        "ends": (number(low), number(high)),
    }


def as_published(outcome: Outcome) -> dict[str, Any]:
    """What is published of an outcome: all that the page shows, without the numbers of each seed."""
    plain = outcome.to_dict()
    experiments = [
        {
            "title": result.title,
            "described": result.described,
            "findings": [
                {**{name: value for name, value in finding.to_dict().items() if name != "differences"}, "found": numbers(finding)}
                for finding in result.findings
            ],
        }
        for result in outcome.results
    ]
    return {**{name: plain[name] for name in _PUBLISHED}, "experiments": experiments}


def page(found: Mapping[str, Mapping[str, Any]], pictures: str = "claims") -> str:
    """The page of all published verdicts, in Markdown; ``pictures`` is the folder of the pictures as the page sees it."""
    papers = {name: paper_of(claim["paper"]) for name, claim in found.items()}
    counts = {verdict: sum(claim["verdict"] == verdict for claim in found.values()) for verdict in get_args(Verdict)}
    return _environment().get_template("page.md").render(claims=found, papers=papers, counts=counts, pictures=pictures)


def verdicts(found: Mapping[str, Mapping[str, Any]]) -> str:
    """What is published, as JSON with a line for each rule, so that a change shows as what it is."""
    return "{\n" + ",\n".join(f"{json.dumps(name)}: {_lines(claim, 1)}" for name, claim in found.items()) + "\n}\n"


def _lines(value: Any, depth: int) -> str:
    """JSON whose mappings of plain values stand on one line each."""
    if isinstance(value, list):
        return "[\n" + ",\n".join(" " * depth + _lines(each, depth + 1) for each in value) + "\n" + " " * (depth - 1) + "]"
    if isinstance(value, Mapping) and any(isinstance(each, list) for each in value.values()):
        return "{" + ", ".join(f"{json.dumps(name)}: {_lines(each, depth)}" for name, each in value.items()) + "}"
    return json.dumps(value)


def index() -> str:
    """What can be known of every claim without importing it, a line for each."""
    lines = []
    for name in names():
        claim = load(name)
        rules = [str(rule) for rule in claim.rules]
        entry = {"name": name, "paper": claim.paper, "statement": claim.statement, "rules": rules, "seconds": claim.seconds}
        lines.append(json.dumps(entry))
    return "[\n" + ",\n".join(lines) + "\n]\n"


def publish(outcomes: Sequence[Outcome], docs: Path, file: Path, there: Sequence[str]) -> None:
    """Put outcomes into the file of verdicts and write the page and their pictures; of claims not run, what is published stays.

    Args:
        outcomes: what was run.
        docs: the folder of the page ``claims.md``; pictures go to its folder ``claims``.
        file: the file of verdicts.
        there: every claim that there is; what is published of any other is taken away.
    """
    kept: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    kept |= {outcome.name: as_published(outcome) for outcome in outcomes}
    found = {name: kept[name] for name in sorted(kept) if name in there}
    folder = docs / "claims"
    folder.mkdir(parents=True, exist_ok=True)
    texts = {folder / f"{outcome.name}.svg": picture(outcome) for outcome in outcomes}
    for path, text in {**texts, docs / "claims.md": page(found), file: verdicts(found)}.items():
        path.write_text(text, encoding="utf-8", newline="\n")
    for path in folder.glob("*.svg"):
        if path.stem not in found:
            path.unlink()
