"""What every test and every example in a docstring finds ready."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)  # two threads on two shared cores can be far slower than one


@pytest.fixture(autouse=True)
def _names_in_examples(doctest_namespace: dict[str, object]) -> None:
    doctest_namespace["torch"] = torch


@pytest.fixture(autouse=True, scope="session")
def loops_are_compiled_once() -> Iterator[None]:
    """Of two workers that want the same loop at the same time, one compiles it and the other reads what was kept."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        yield
        return
    from numba.core.dispatcher import Dispatcher

    compile_alone = Dispatcher.compile

    def compile_in_turn(self: Any, signature: Any) -> Any:
        kept = getattr(self._cache, "cache_path", None)  # none for what vanishes in a loop
        if kept is None or signature in self.overloads:
            return compile_alone(self, signature)
        Path(kept).mkdir(exist_ok=True, parents=True)
        with FileLock(Path(kept, f"{self.py_func.__qualname__}.lock")):
            return compile_alone(self, signature)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Dispatcher, "compile", compile_in_turn)
        yield
