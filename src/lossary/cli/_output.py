"""Plain text for people, JSON for programs; nothing here needs more than the standard library."""

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

_STYLES = {"bold": "1", "dim": "2", "green": "32", "yellow": "33", "cyan": "36"}
STATUS_STYLES = {"available": "green", "partly": "yellow", "missing": "dim", "no unit": "dim"}


def width() -> int:
    """Columns to write in: the terminal's, within what is comfortable to read."""
    return max(40, min(shutil.get_terminal_size((100, 24)).columns, 120))


def styled(text: str, style: str) -> str:
    """Coloured on a terminal only, and not where the user has said NO_COLOR."""
    if not sys.stdout.isatty() or "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb":
        return text
    return f"\033[{_STYLES[style]}m{text}\033[0m"


def write(lines: str | Iterable[str]) -> None:
    """Write everything at once; a reader that has seen enough (``| head``) ends it quietly."""
    text = lines if isinstance(lines, str) else "\n".join(lines)
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.write(text.encode(encoding, "replace").decode(encoding) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more when it ends


@contextmanager
def said_when_stopped(what: str) -> Iterator[None]:
    """Ctrl-C at any time, also while libraries and data are read, ends with a sentence; ``what`` is kept, such as "work is"."""
    try:
        yield
    except KeyboardInterrupt:
        sys.stderr.write(f"lossary: stopped; finished {what} kept, and the same command goes on from there\n")
        sys.exit(130)


def write_json(value: object) -> None:
    """Pure JSON, in ASCII, so that no terminal's encoding can spoil it."""
    write(json.dumps(value, indent=2))


def wrapped(text: str, indent: str = "", first: str | None = None) -> list[str]:
    """Lines of at most the terminal's width, broken between words only."""
    return textwrap.wrap(
        text,
        width(),
        initial_indent=indent if first is None else first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def labelled(label: str, text: str, column: int = 12) -> list[str]:
    """A label in a column of its own and its text wrapped beside it."""
    lines = wrapped(text, " " * column, f"{label:<{column - 2}}  ")
    return [styled(label, "dim") + lines[0][len(label) :], *lines[1:]] if lines else []


def to_copy(label: str, text: str, column: int = 12) -> list[str]:
    """A label and a line to copy, which is never broken."""
    return [styled(f"{label:<{column}}", "dim") + text]


def table(rows: Sequence[Sequence[str]], styles: Sequence[str | None] = ()) -> list[str]:
    """Aligned columns; the last one is cut where the terminal ends."""
    if not rows:
        return []
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    lines = []
    for row in rows:
        cells = [f"{cell:<{size}}" for cell, size in zip(row, widths, strict=False)]
        room = max(width() - sum(widths) - 2 * len(widths), 20)
        last = row[-1] if len(row[-1]) <= room else row[-1][: room - 3].rstrip() + "..."
        marked = [
            styled(cell, style) if style else cell for cell, style in zip(cells, [*styles, *[None] * len(cells)], strict=False)
        ]
        lines.append("  ".join([*marked, last]).rstrip())
    return lines


def number_of(count: int, word: str) -> str:
    """A count with its noun."""
    return f"{count} {word if count == 1 else 'entries' if word == 'entry' else word + 's'}"
