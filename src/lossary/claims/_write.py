"""A claim's picture, and the page and the file of published verdicts: all of it made from outcomes, nothing typed by hand."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from lossary.catalogue import entry as paper_of
from lossary.claims import names
from lossary.claims._rules import Finding
from lossary.claims._run import Outcome, Result, load

PUBLISHED = ("verdict", "digest", "seconds")  # of an outcome, beside what was found for each rule
_LEFT, _RIGHT = 24, 736  # of a picture's axes


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=lambda name: name is not None and name.endswith(".svg"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"number": number, "signed": signed, "numbers": numbers}
    return environment


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


def page(outcomes: Sequence[Outcome], pictures: str) -> str:
    """The page of all verdicts, in Markdown; ``pictures`` is the folder of the pictures as the page sees it."""
    papers = {outcome.name: paper_of(outcome.claim.paper) for outcome in outcomes}
    counts = {verdict: sum(outcome.verdict == verdict for outcome in outcomes) for verdict in ("held", "not held", "not decided")}
    return _environment().get_template("page.md").render(outcomes=outcomes, papers=papers, counts=counts, pictures=pictures)


def verdicts(outcomes: Sequence[Outcome]) -> str:
    """What is published of each claim, as JSON with a line for each rule."""
    entries = []
    for outcome in outcomes:
        plain = outcome.to_dict()
        head = json.dumps({name: plain[name] for name in PUBLISHED})
        rules = [finding for experiment in plain["experiments"] for finding in experiment["findings"]]
        lines = [json.dumps({name: value for name, value in rule.items() if name != "differences"}) for rule in rules]
        entries.append(f' "{outcome.name}": {head[:-1]}, "findings": [\n   ' + ",\n   ".join(lines) + "\n ]}")
    return "{\n" + ",\n".join(entries) + "\n}\n"


def index() -> str:
    """What can be known of every claim without importing it, a line for each."""
    lines = []
    for name in names():
        claim = load(name)
        rules = [str(rule) for rule in claim.rules]
        entry = {"name": name, "paper": claim.paper, "statement": claim.statement, "rules": rules, "seconds": claim.seconds}
        lines.append(json.dumps(entry))
    return "[\n" + ",\n".join(lines) + "\n]\n"


def publish(outcomes: Sequence[Outcome], docs: Path, verdict_file: Path) -> list[Path]:
    """Write the page, a picture for each claim and the file of verdicts, and take away pictures of claims that are gone."""
    folder = docs / "claims"
    folder.mkdir(parents=True, exist_ok=True)
    texts = {folder / f"{outcome.name}.svg": picture(outcome) for outcome in outcomes}
    texts |= {docs / "claims.md": page(outcomes, "claims"), verdict_file: verdicts(outcomes)}
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8", newline="\n")
    for stray in set(folder.glob("*.svg")) - set(texts):
        stray.unlink()
    return list(texts)
