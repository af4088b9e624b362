"""Write what can be known without torch: ``python tools/index.py`` (``--check`` only says whether the files are current).

The registry fills itself when the units are imported, which imports torch. The command line answers from a file made here,
and so do editors and type checkers, for whom ``lossary.functional`` would otherwise have no members. The search of the catalogue
starts from a file that is made here as well.
"""

import inspect
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ForwardRef, Literal, Union, get_args, get_origin

from lossary._core.kinds import UNITS
from lossary._core.parameters import Numbers, annotations_of, domains
from lossary._core.registry import Parameter, Spec, UnitSpec, specs, units
from lossary.catalogue._search import prepared
from lossary.claims._write import index as claims_index
from lossary.functional import BESIDE

PACKAGE = Path(__file__).parents[1] / "src" / "lossary"
COMMAND = "python tools/index.py"
_OWN = "lossary."
_WORDS = {
    "Callable": "a function",
    "Generator": "a torch.Generator",
    "Iterable": "an iterable",
    "Mapping": "a mapping",
    "Module": "a module",
    "ProcessGroup": "a process group",
    "Tensor": "a tensor",
    "float": "a number",
    "int": "an integer",
    "str": "a string",
    "tuple": "a tuple",
}


def described(spec: Spec | UnitSpec) -> dict[str, Any]:
    """A spec as plain JSON values."""
    if isinstance(spec, UnitSpec):
        return {
            "kind": spec.kind,
            "name": spec.name,
            "module": spec.target.__module__,
            "cls": spec.target.__name__,
            "function": "" if inspect.isclass(spec.target) else _path(spec),
            "import_line": spec.import_line,
            "summary": spec.summary,
            "parameters": _parameters(spec.target, spec.parameters),
        }
    return {
        "kind": spec.kind,
        "name": spec.name,
        "family": spec.family,
        "module": spec.cls.__module__,
        "cls": spec.cls.__name__,
        "function": f"lossary.functional.{spec.name}",
        "import_line": spec.import_line,
        "summary": spec.summary,
        "parameters": _parameters(spec.cls, spec.parameters),
        "consumes": spec.consumes if isinstance(spec.consumes, str) else list(spec.consumes),
        "requires": list(spec.requires),
        "soft_targets": spec.soft_targets,
        "decomposable": spec.decomposable,
        "value_is_objective": spec.value_is_objective,
        "stage": spec.stage,
        "link": spec.link,
        "proper": spec.proper,
        "saturates": spec.saturates,
        "vmap": spec.vmap,
        "compile": spec.compile,
        "distributed": spec.distributed,
        "exact_gradient_with": _plain(dict(spec.exact_gradient_with)),
        "special_cases": [
            {"parameters": _plain(dict(case.parameters)), "equals": case.equals, "of": _plain(dict(case.of))}
            for case in spec.special_cases
        ],
        "waivers": dict(spec.waivers),
        "aliases": list(spec.aliases),
    }


def _path(spec: UnitSpec) -> str:
    """Where a function is found by its public name."""
    _, home, _, name = spec.import_line.split()
    return f"{home}.{name}"


def _parameters(function: Callable[..., Any], parameters: tuple[Parameter, ...]) -> list[dict[str, Any]]:
    return [
        {
            "name": p.name,
            "required": p.required,
            "default": None if p.required else _plain(p.default),
            "text": str(p),
            "domain": _domain(function, p.name, p.domain, p.optional),
        }
        for p in parameters
    ]


def _plain(value: object) -> Any:
    """A value as JSON has it; what JSON does not have becomes its text."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return repr(value)


def _domain(function: Callable[..., Any], name: str, domain: object, optional: bool) -> str:
    """What a parameter may be, in words: its declared domain, or else its type."""
    words = _types(annotations_of(function)[name]) if domain is None else [str(domain)]
    optional = optional or "None" in words
    words = list(dict.fromkeys(word for word in words if word != "None"))
    return " or ".join([*words, "None"] if optional else words)


def _types(annotation: Any) -> list[str]:
    """The alternatives of a type, in words."""
    origin, parts = get_origin(annotation), [part for part in get_args(annotation) if part is not Ellipsis]
    if origin is Literal:
        return [repr(word) for word in parts]
    if origin in (Union, UnionType):
        return [word for part in parts for word in _types(part)]
    if origin in (tuple, Sequence):
        return [f"a sequence, each {' or '.join(dict.fromkeys(word for part in parts for word in _types(part)))}"]
    if annotation is None or annotation is NoneType:
        return ["None"]
    name = annotation.__forward_arg__ if isinstance(annotation, ForwardRef) else (origin or annotation).__name__
    return [_WORDS.get(name, name)]


def own_specs() -> list[Spec]:
    """The objectives that this package registers; another package that happens to be installed is not part of it."""
    return [spec for spec in specs().values() if spec.cls.__module__.startswith(_OWN)]


def own_units() -> list[UnitSpec]:
    """What this package registers of every other kind."""
    return [found for kind in UNITS for found in units(kind).values() if found.target.__module__.startswith(_OWN)]


def stub(own: Sequence[Spec]) -> str:
    """Every function with its signature and its docstring, as editors and type checkers see it."""
    lines = [
        "# Generated by `python tools/index.py`; do not edit.",
        "",
        "from collections.abc import Callable, Iterable, Sequence",
        "from typing import Literal",
        "",
        "import torch",
        "from torch import Tensor",
        "from torch.distributed import ProcessGroup",
        "",
        "from lossary._core.parameters import Vector",
        *sorted(f"from {home} import {name} as {name}" for name, home in BESIDE.items()),
        "",
        "BESIDE: dict[str, str]",
    ]
    for spec in own:
        lines += ["", *_definition(spec.function, spec.name)]
        lines += [f"{alias} = {spec.name}" for alias in spec.aliases if alias.isidentifier() and alias.islower()]
    return "\n".join(lines) + "\n"


def _definition(function: Callable[..., Any], name: str) -> list[str]:
    signature, vectors = inspect.signature(function), {n for n, (d, _) in domains(function).items() if isinstance(d, Numbers)}
    lines, keywords = [f"def {name}("], False
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not keywords:
            lines, keywords = [*lines, "    *,"], True
        written = _type(parameter.annotation)
        written = written.replace("Tensor", "Vector") if parameter.name in vectors else written
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        lines.append(f"    {parameter.name}: {written}{default},")
    docs = [f"    {line}".rstrip() for line in (function.__doc__ or "").rstrip().splitlines()]
    return [*lines, f") -> {_type(signature.return_annotation)}:", '    r"""' + docs[0].strip(), *docs[1:], '    """']


def _type(annotation: Any) -> str:
    """A type as it is written."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return " | ".join(dict.fromkeys(map(_type, parts)))
    if annotation is None or annotation is NoneType or annotation is Ellipsis:
        return "..." if annotation is Ellipsis else "None"
    if isinstance(annotation, list):  # the arguments of a function
        return f"[{', '.join(map(_type, annotation))}]"
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, parts))}]"
    if isinstance(annotation, ForwardRef):
        return annotation.__forward_arg__
    named = origin or annotation
    own = named.__module__ in ("builtins", "collections.abc") or named.__name__ in ("Tensor",)
    text = named.__qualname__ if own else f"torch.{named.__qualname__}" if named.__module__.startswith("torch._C") else ""
    text = text or f"{named.__module__}.{named.__qualname__}"
    return f"{text}[{', '.join(map(_type, parts))}]" if parts else text


def contents() -> dict[Path, str]:
    """The generated files, as they should be."""
    own = own_specs()
    every: list[Spec | UnitSpec] = [*own, *own_units()]
    records = ",\n".join(json.dumps(described(spec), ensure_ascii=False) for spec in every)
    return {
        PACKAGE / "catalogue" / "registry.json": f"[\n{records}\n]\n",
        PACKAGE / "functional.pyi": stub(own),
        PACKAGE / "catalogue" / "search.json": _lines(prepared()),
        PACKAGE / "catalogue" / "claims.json": claims_index(),
    }


def _lines(tables: dict[str, Any]) -> str:
    """JSON with one line for each entry of each table, so that a change shows as what it is."""
    parts = []
    for name, table in tables.items():
        if isinstance(table, dict):
            body = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in table.items())
            parts.append(f"{json.dumps(name)}: {{\n{body}\n}}")
        elif isinstance(table, list):
            body = ",\n".join(map(json.dumps, table))
            parts.append(f"{json.dumps(name)}: [\n{body}\n]")
        else:
            parts.append(f"{json.dumps(name)}: {json.dumps(table)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def stale() -> list[Path]:
    """The generated files that differ from the registry."""
    return [path for path, text in contents().items() if not path.exists() or path.read_text(encoding="utf-8") != text]


def main(arguments: list[str]) -> int:
    """Write the files that are out of date, or with ``--check`` only name them and return 1."""
    if arguments not in ([], ["--check"]):
        sys.stderr.write(f"usage: {COMMAND} [--check]\n")
        return 2
    changed = stale()
    for path in changed:
        name = path.relative_to(PACKAGE)
        if arguments:
            sys.stdout.write(f"{name} is out of date: run {COMMAND}\n")
        else:
            path.write_text(contents()[path], encoding="utf-8", newline="\n")
            sys.stdout.write(f"{name} written\n")
    return 1 if arguments and changed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
