"""Whether a compiled loop ran on several threads."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest


def on_several_threads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Will hold how many threads each loop had that had more than one."""
    used: list[int] = []

    def counted(threads: int) -> Any:
        used.append(threads)
        return ThreadPoolExecutor(threads)

    monkeypatch.setattr("lossary._fast.mathematics.ThreadPoolExecutor", counted)
    return used
