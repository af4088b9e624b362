"""Every objective as a pure function: ``lossary.functional.focal(logits, target, gamma=2.0)``, resolved from the registry."""

from collections.abc import Callable
from typing import Any

from lossary._registry import specs, suggestion


def __getattr__(name: str) -> Callable[..., Any]:
    if name.startswith("_"):  # what the import system and tools probe for
        raise AttributeError(name)
    known = specs()
    if name not in known:
        raise AttributeError(f"lossary.functional has no function {name!r}{suggestion(name, known)}")
    return known[name].function


def __dir__() -> list[str]:
    return list(specs())
