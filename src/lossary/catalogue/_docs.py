"""A unit's docstring in parts, read from its source file: importing the unit would import torch."""

import ast
import functools
import re
from dataclasses import dataclass, field
from inspect import cleandoc
from pathlib import Path

from lossary.catalogue._units import Unit

_SECTION = re.compile(r"^(Args|Shape|Units|Errors|Source|Returns|Note|Example|Raises):\s*(.*)$")
_BRACES = r"\{[^{}]*\}"
for _ in range(3):  # as deep as formulas go
    _BRACES = rf"\{{[^{{}}]*(?:{_BRACES}[^{{}}]*)*\}}"
_ARGUMENT = rf"({_BRACES}|\\[a-zA-Z]+|\w)"  # of a command: in braces, a name, or one sign
# What a terminal can show of the formulas. Longer names first: \le must not eat the head of \left.
_SYMBOLS = {
    "\\left": "", "\\right": "", "\\begin{cases}": "", "\\end{cases}": "", "\\\\": "; ", "\\times": "*", "\\cdots": "...",
    "\\ldots": "...", "\\dots": "...", "\\cdot": "*", "\\infty": "inf", "\\ell": "l", "\\leq": "<=", "\\geq": ">=", "\\neq": "!=",
    "\\le": "<=", "\\ge": ">=", "\\ne": "!=", "\\in": "in", "\\,": " ", "\\;": " ", "\\!": "", "\\{": "{", "\\}": "}", "&=": "=",
    "\\|": "|", "\\lVert": "|", "\\rVert": "|", "\\lvert": "|", "\\rvert": "|", "\\to": "->", "\\approx": "~", "\\odot": "*",
    "\\leftarrow": "<-", "\\rightarrow": "->", "\\mid": "|", "\\Vert": "|", "\\vert": "|", "\\langle": "<", "\\rangle": ">",
    "\\quad": " ", "\\qquad": " ", "\\top": "T", "\\sim": "~", "&": "if",
}  # fmt: skip


@dataclass(frozen=True)
class Docs:
    """A docstring taken apart."""

    summary: str = ""
    text: tuple[str, ...] = ()
    maths: tuple[str, ...] = ()
    arguments: dict[str, str] = field(default_factory=dict)
    sections: dict[str, str] = field(default_factory=dict)
    example: str = ""


@functools.cache
def docs_of_class(module: str, cls: str) -> Docs:
    path = Path(__file__).parents[2].joinpath(*module.split(".")).with_suffix(".py")
    if not path.exists():
        return Docs()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == cls:
            return take_apart(ast.get_docstring(node, clean=False) or "")
    return Docs()


def docs_of(unit: Unit) -> Docs:
    """The docstring of a unit's class."""
    return docs_of_class(unit.module, unit.cls)


def take_apart(docstring: str) -> Docs:
    """Split a docstring into its summary, its formulas, its arguments, its named sections and the rest."""
    summary, _, body = cleandoc(docstring).partition("\n")
    blocks: list[tuple[str, list[str]]] = [("text", [])]
    for line in body.splitlines():
        section = _SECTION.match(line)
        if line.startswith(".. math::"):
            blocks.append(("maths", [line.removeprefix(".. math::").strip()]))
        elif line.startswith(">>>") and blocks[-1][0] != "example":
            blocks.append(("example", [line]))
        elif section:
            blocks.append((section[1], [section[2]]))
        elif line and not line.startswith(" ") and blocks[-1][0] not in ("text", "example"):
            blocks.append(("text", [line]))
        else:
            blocks[-1][1].append(line)
    paragraphs = [p for kind, lines in blocks if kind == "text" for p in "\n".join(lines).split("\n\n")]
    return Docs(
        summary=plain_text(summary),
        text=tuple(plain_text(p) for p in paragraphs if p.strip()),
        maths=tuple(line for kind, lines in blocks if kind == "maths" for line in plain_maths(" ".join(lines))),
        arguments=_arguments([line for kind, lines in blocks if kind == "Args" for line in lines]),
        sections={k: plain_text(" ".join(lines)) for k, lines in blocks if k not in ("text", "maths", "Args", "example")},
        example="\n".join(line for kind, lines in blocks if kind == "example" for line in lines).strip(),
    )


def _arguments(lines: list[str]) -> dict[str, str]:
    """``gamma, alpha: what they do`` for each argument by its own name."""
    found: dict[str, str] = {}
    current: list[str] = []
    for line in lines:
        named = re.match(r"^ {4}([\w, ]+): (.*)$", line)
        if named:
            current = [name.strip() for name in named[1].split(",")]
            found.update(dict.fromkeys(current, plain_text(named[2])))
        elif line.strip():
            for name in current:
                found[name] = f"{found[name]} {plain_text(line)}"
    return found


def plain_text(text: str) -> str:
    """Markup taken out: roles become the name they point to, and literals lose their marks."""
    text = re.sub(r":math:`([^`]+)`", lambda formula: _equation(formula[1]), text)
    text = re.sub(r":\w+:`~?([^`]+)`", r"\1", text).replace("``", "").replace("\\*", "*").replace("`", "")
    return " ".join(text.split())


def plain_maths(formula: str) -> list[str]:
    """A formula as text that a terminal can show, one line for each of its equations."""
    return [line for part in re.split(r"\\q+uad", formula) if (line := _equation(part).rstrip(" ,"))]


def _equation(formula: str) -> str:
    formula = re.sub(r"&\s*\\text\{otherwise\}", " otherwise", formula)
    formula = re.sub(r"\\(?:text|mathrm|mathbf|mathbb|mathcal|operatorname)\{([^{}]*)\}", r"\1", formula)
    formula = re.sub(r"\\([bB]ig+[lrm]?|textstyle|displaystyle)(?![a-zA-Z])", "", formula)
    while "frac" in formula:
        shorter = re.sub(rf"\\[td]?frac\s*{_ARGUMENT}\s*{_ARGUMENT}", _fraction, formula)
        formula = shorter if shorter != formula else formula.replace("frac", "")
    formula = re.sub(r"(?<=[a-zA-Z0-9])(?=\\[a-zA-Z])", " ", formula)  # two names beside each other stay two
    formula = re.sub(r"\\sqrt\{([^{}]*)\}", r"sqrt(\1)", formula)
    for sign in sorted(_SYMBOLS, key=len, reverse=True):
        formula = re.sub(
            re.escape(sign) + (r"(?![a-zA-Z])" if sign[-1].isalpha() else ""), f" {_SYMBOLS[sign]} ".replace("  ", " "), formula
        )
    formula = re.sub(r"([_^])\{(\\?\w+)\}", r"\1\2", formula)
    formula = re.sub(r"([_^])\{([^{}]*)\}", r"\1(\2)", formula)
    formula = re.sub(r"\\([a-zA-Z]+)", r"\1", formula)  # \log, \gamma and the like are readable without the sign
    formula = re.sub(r"\s+([,;)\]])", r"\1", " ".join(formula.split()))
    formula = re.sub(r"([_^]) (?=[a-zA-Z])", r"\1", formula)
    return re.sub(r"([(\[])\s+|\bl \(", lambda m: m[1] or "l(", formula)


def _fraction(parts: re.Match[str]) -> str:
    bare = (p[1:-1] if p.startswith("{") else p for p in parts.groups())
    above, below = (p if re.fullmatch(r"[\w\\]+", p.strip()) else f"({p})" for p in bare)
    return f"({above} / {below})"
