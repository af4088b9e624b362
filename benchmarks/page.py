"""Put what a benchmark printed into its section of a Markdown page."""

import re
from pathlib import Path

TITLE = "# How fast Lossary is\n\nWritten by `make bench`; seconds differ from machine to machine, ratios less.\n"


def save(path: Path, part: str, command: str, printed: str) -> None:
    """Write the section of this part anew, and leave the others as they are."""
    old = path.read_text(encoding="utf-8") if path.exists() else TITLE
    lines = "\n".join(line.rstrip() for line in printed.strip("\n").splitlines() if line.strip() and line.strip() != "training")
    section = f"\n## {part}\n\n`{command}`\n\n```text\n{lines}\n```\n"
    found = re.search(rf"\n## {part}\n.*?(?=\n## |\Z)", old, flags=re.S)
    before, after = (old[: found.start()], old[found.end() :]) if found else (old, "")
    path.write_text(before.rstrip("\n") + "\n" + section + after, encoding="utf-8")
