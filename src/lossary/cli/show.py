"""lossary show: one entry, with its maths, its parameters and its source."""

from dataclasses import asdict
from typing import Annotated

import typer

from lossary import catalogue, claims
from lossary.catalogue import Paper, Unit, entry, papers_providing, units_named
from lossary.cli._output import STATUS_STYLES, labelled, styled, to_copy, wrapped, write, write_json
from lossary.errors import UnknownNameError


def show(
    name: Annotated[
        str, typer.Argument(help="A registered name, a key of the catalogue, or a paper's number.", show_default=False)
    ],
    json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
) -> None:
    """Show one entry: what it is, its maths, its parameters, its papers, and how to use it."""
    found = units_named(name)
    if json and found:
        write_json({**_unit_dict(found[0]), "others": [_unit_dict(unit) for unit in found[1:]]})
    elif found:
        parts = [_unit_text(unit) for unit in found]
        write([line for part in parts[:-1] for line in [*part, "", ""]] + parts[-1])
    else:
        paper = _record(name)
        write_json({"unit": None, "papers": [_paper_dict(paper)]}) if json else write(_paper_text(paper))


def _record(name: str) -> Paper:
    try:
        return entry(name)
    except UnknownNameError as error:
        raise UnknownNameError(f"show: {error}") from None


def _unit_text(unit: Unit) -> list[str]:
    docs = catalogue.docs_of(unit)
    lines = [
        f"{styled(unit.name, 'bold')}  {styled(', '.join(filter(None, (unit.kind.replace('_', ' '), unit.family))), 'dim')}",
        *wrapped(docs.summary or unit.summary),
        "",
    ]
    lines += [line for formula in docs.maths for line in wrapped(formula, "        ", "    ")]
    lines += [""] if docs.maths else []
    lines += [line for paragraph in docs.text for line in [*wrapped(paragraph), ""]]
    for section in ("Shape", "Units"):
        if section in docs.sections:
            lines += labelled(section.lower(), docs.sections[section])
    lines += ["", styled("parameters", "bold")]
    column = min(max((len(p.text) for p in unit.parameters), default=0) + 4, 34)
    for parameter in unit.parameters:
        about = "; ".join(part for part in (docs.arguments.get(parameter.name, "").rstrip("."), parameter.domain) if part)
        lines += labelled(f"  {parameter.text}", about, column)
    lines += [""]
    if unit.kind == "objective":
        lines += [*labelled("supports", "; ".join(_supports(unit))), *labelled("predicts", _prediction(unit))]
        lines += labelled("values", _values(unit))
    if unit.aliases:
        lines += labelled("also named", ", ".join(unit.aliases))
    for case in unit.special_cases:
        given = ", ".join(f"{key}={value}" for key, value in case["parameters"].items())
        other = ", ".join(f"{key}={value}" for key, value in case["of"].items())
        lines += labelled("equals", f"{case['equals']}{f'({other})' if other else ''} with {given}")
    if "Source" in docs.sections:
        lines += labelled("source", docs.sections["Source"])
    for paper in papers_providing(unit.kind, unit.name):
        lines += labelled("paper", f"{paper.title}{f' ({paper.citation})' if paper.citation else ''}")
        lines += _claims(paper)
    lines += ["", *to_copy("import", unit.import_line)]
    if unit.kind == "objective":
        lines += [*to_copy("create", unit.create_line), *to_copy("function", unit.function)]
    else:
        lines += to_copy("call" if unit.function else "create", unit.create_line)
    return lines + (to_copy("compare", unit.compare_command) if unit.compare_command else [])


def _claims(paper: Paper) -> list[str]:
    """What was measured of what the paper says."""
    texts = [f"{verdict}: {claim.statement} (lossary claim {claim.name})" for claim, verdict in claims.about(paper.key)]
    return [line for text in texts for line in labelled("claim", text)]


def _supports(unit: Unit) -> list[str]:
    flags = {
        "class weights": unit.takes("weight") and unit.family == "classification",
        "element weights": unit.takes("weight") and unit.family != "classification",
        "ignored targets": unit.takes("ignore_index"),
        "label smoothing": unit.takes("label_smoothing"),
        "soft targets": unit.soft_targets and unit.family != "regression",
        "values per sample": unit.decomposable,
        "torch.compile": unit.compile,
        "torch.func.vmap": unit.vmap,
        "several machines": unit.distributed == "exact",
    }
    extra = [f"needs {', '.join(unit.requires)}"] if unit.requires else []
    return [name for name, has in flags.items() if has] + extra


# What the inputs of a family should hold.
VALUES = {
    "classification": "classes that exist, or probabilities that sum to 1",
    "multilabel": "targets in [0, 1]",
    "label_ranking": "targets in [0, 1], of which those above 0 are positive",
    "regression": "finite numbers",
    "bags": "bags that exist, finite targets",
    "embedding": "finite embeddings",
    "contrastive": "finite embeddings",
    "ranking": "finite grades",
    "distillation": "classes that exist",
    "sets": "classes that exist",
}


def _values(unit: Unit) -> str:
    return f"{VALUES[unit.family]}; a call does not look at them, lossary.check_values() does"


def _prediction(unit: Unit) -> str:
    words = {
        "probabilities": "probabilities",
        "scores": "scores that need not sum to one",
        "ranking": "an order only",
        "value": "the value itself",
    }
    return words.get(unit.link, unit.link) + ("; proper: best at the true distribution" if unit.proper else "")


def _paper_text(paper: Paper) -> list[str]:
    status = {"missing": "not implemented here yet", "no unit": "gives no unit"}.get(paper.status, paper.status)
    lines = [f"{styled(paper.key, 'bold')}  {styled(f'[{status}]', STATUS_STYLES[paper.status])}", *wrapped(paper.title)]
    lines += [*wrapped(paper.citation), "", *wrapped(paper.summary), ""]
    for label, texts in (("helps with", paper.symptoms), ("ideas", paper.techniques), ("tasks", paper.tasks), ("data", paper.data)):
        lines += labelled(label, "; ".join(texts))
    for kind, names in paper.provides.items():
        known = {unit.name for unit in paper.units if unit.kind == kind}
        lines += labelled(kind.replace("_", " "), ", ".join(f"{name} (available)" if name in known else name for name in names))
    lines += _claims(paper)
    if paper.note:
        lines += labelled("note", paper.note)
    if paper.url:
        lines += to_copy("link", paper.url)
    for unit in paper.units[:6]:
        lines += to_copy("import", unit.import_line)
    if paper.status == "missing":
        lines += ["", "Nothing to import yet: it is in the catalogue, but not implemented here."]
    return lines


def _paper_dict(paper: Paper) -> dict[str, object]:
    found = [{"name": claim.name, "statement": claim.statement, "verdict": verdict} for claim, verdict in claims.about(paper.key)]
    return {**paper.as_dict(), "url": paper.url, "import": [unit.import_line for unit in paper.units], "claims": found}


def _unit_dict(unit: Unit) -> dict[str, object]:
    docs = catalogue.docs_of(unit)
    described = {
        **asdict(unit),
        "title": docs.summary or unit.summary,
        "maths": list(docs.maths),
        "text": list(docs.text),
        "arguments": docs.arguments,
        "shape": docs.sections.get("Shape", ""),
        "source": docs.sections.get("Source", ""),
        "supports": _supports(unit) if unit.kind == "objective" else [],
        "values": VALUES[unit.family] if unit.kind == "objective" else "",
        "create": unit.create_line,
        "compare": unit.compare_command,
    }
    return {"unit": described, "papers": [_paper_dict(paper) for paper in papers_providing(unit.kind, unit.name)]}
