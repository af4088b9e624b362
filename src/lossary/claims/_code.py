"""The code that a computation depends on, so that kept numbers are taken again only while it stays as it was."""

import ast
import functools
import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lossary._registry import specs

# What describes, judges, keeps or finds, and so cannot change a number.
_NOT_MEASURING = (
    "lossary.arena.store",
    "lossary.catalogue",
    "lossary.claims._claim",
    "lossary.claims._code",
    "lossary.claims._computation",
    "lossary.claims._rules",
    "lossary.claims._training",
)


def code_of(function: Callable[..., Any]) -> str:
    """A digest of the module that a function is written in and of everything of Lossary that this module uses, however far away.

    A registered name that stands in the module as a text (``create("focal")``) counts as used.
    """
    found: dict[str, str] = {}
    _collect(function.__module__, found)
    together = "\n".join(found[name] for name in sorted(found))
    return hashlib.sha256(f"{torch.__version__}\n{function.__qualname__}\n{together}".encode()).hexdigest()[:16]


def _collect(name: str, found: dict[str, str]) -> None:
    if name in found:
        return
    found[name], used = _read(name)
    for other in used:
        _collect(other, found)


@functools.cache
def _read(name: str) -> tuple[str, tuple[str, ...]]:
    """The source of a module and the modules of Lossary that it uses."""
    text = inspect.getsource(importlib.import_module(name))
    nodes = list(ast.walk(ast.parse(text)))
    registered = specs()
    found: list[Any] = []
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lossary"):
            package = importlib.import_module(str(node.module))
            found += [package, *(getattr(package, alias.name, None) for alias in node.names)]
        elif isinstance(node, ast.Import):
            found += [importlib.import_module(alias.name) for alias in node.names if alias.name.startswith("lossary")]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.partition("(")[0] in registered:
            found.append(registered[node.value.partition("(")[0]].cls)
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    for value in found:  # which grows: lossary.optim.SignSGD is an attribute of an attribute
        if inspect.ismodule(value):
            found += [inner for inner in (getattr(value, each, None) for each in attributes) if _home(inner) and inner not in found]
    return text, tuple(dict.fromkeys(home for home in map(_home, found) if _has_source(home)))


def _home(value: object) -> str:
    """The module of Lossary in which something is written, which need not be the one that it was imported from."""
    home = value.__name__ if inspect.ismodule(value) else getattr(value, "__module__", None)
    return home if isinstance(home, str) and home.split(".")[0] == "lossary" else ""


def _has_source(name: str) -> bool:
    """Package files that only list what is below them say nothing about what a name from there does."""
    if name.startswith(_NOT_MEASURING):
        return False
    file = getattr(sys.modules.get(name), "__file__", None)
    return file is not None and Path(file).name != "__init__.py"
