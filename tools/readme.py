"""Put what `lossary compare digits` prints into the README, between its two marks. `make readme` runs it."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"

with tempfile.TemporaryDirectory() as folder:
    printed = subprocess.run(
        [sys.executable, "-m", "lossary", "compare", "digits"],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
        env={**os.environ, "COLUMNS": "84"},
    ).stdout
lines = [line.rstrip() for line in printed.strip("\n").splitlines()]
block = "\n".join(line[1:] if line.startswith(" ") else line for line in lines if line)
README.write_text(
    re.sub(
        r"(<!-- leaderboard -->\n```text\n).*?(```\n<!-- /leaderboard -->)",
        lambda found: f"{found[1]}{block}\n{found[2]}",
        README.read_text(),
        flags=re.S,
    )
)
