"""Processes that a test starts: ended and their pipes closed in any case, with a limit that no busy machine comes near."""

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

LIMIT = 1800.0  # seconds


@contextmanager
def started(command: Sequence[str | Path], **options: object) -> "Iterator[subprocess.Popen[str]]":
    """A process that is killed if it is still there at the end."""
    process: subprocess.Popen[str] = subprocess.Popen(list(map(str, command)), text=True, **options)  # type: ignore[call-overload]
    with process:  # which closes its pipes and waits for it
        try:
            yield process
        finally:
            process.kill()


def run_together(commands: Sequence[Sequence[str | Path]], env: Mapping[str, str]) -> None:
    """Run several processes until all of them have ended; if one fails, the others are ended and its words are raised."""
    with ExitStack() as stack:
        words = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in commands]  # a pipe would have to be read meanwhile
        running = [
            stack.enter_context(started(command, stderr=file, env=env)) for command, file in zip(commands, words, strict=True)
        ]
        wait_until(lambda: any(process.poll() for process in running) or all(process.poll() == 0 for process in running))
        for process, file in zip(running, words, strict=True):
            if process.poll():
                file.seek(0)
                raise AssertionError(f"a process ended with {process.returncode}:\n{file.read()}")


def wait_until(condition: Callable[[], bool]) -> None:
    """Look again and again until a condition holds."""
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end, f"nothing came within {LIMIT:g} seconds"
        time.sleep(0.02)
