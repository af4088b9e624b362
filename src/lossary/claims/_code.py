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
    module = sys.modules.get(name) or importlib.import_module(name)
    text = inspect.getsource(module)
    used: list[str] = []
    registered = specs()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lossary"):
            used += [_home(str(node.module), alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            used += [alias.name for alias in node.names if alias.name.startswith("lossary.")]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.partition("(")[0] in registered:
            used.append(registered[node.value.partition("(")[0]].cls.__module__)
        elif isinstance(node, ast.Attribute) and node.attr in registered:  # lossary.functional.focal
            used.append(registered[node.attr].cls.__module__)
    return text, tuple(dict.fromkeys(other for other in used if _has_source(other)))


def _home(module: str, name: str) -> str:
    """The module in which an imported name is written, which need not be the one that it is imported from."""
    value = getattr(importlib.import_module(module), name, None)
    if inspect.ismodule(value):
        return str(value.__name__)
    home = getattr(value, "__module__", None)
    return home if isinstance(home, str) and home.startswith("lossary") else module


def _has_source(name: str) -> bool:
    """Package files that only list what is below them say nothing about what a name from there does."""
    if name.startswith(_NOT_MEASURING):
        return False
    file = getattr(sys.modules.get(name), "__file__", None)
    return file is not None and Path(file).name != "__init__.py"
