"""Make a release: ``python tools/release.py 0.2.0`` (``make release VERSION=0.2.0``). It tags and builds; it uploads nothing.

The version is written in one place, ``pyproject.toml``. A release needs a clean main branch, a section of the changelog, and
every test. What it leaves behind is a commit, a tag and the two files in ``dist``; publishing them is a command of its own.
"""

import datetime as dt
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = ROOT / "pyproject.toml"
CHANGELOG = ROOT / "CHANGELOG.md"
UNRELEASED = "## Unreleased\n"


def main(arguments: list[str]) -> int:
    """Refuse what is not ready, then test, write the version, commit, tag and build."""
    if len(arguments) != 1 or not re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", arguments[0]):
        return refuse("usage: python tools/release.py VERSION, such as 0.2.0 or 0.2.0rc1")
    version = arguments[0]
    if out("git", "status", "--porcelain"):
        return refuse("there are uncommitted changes")
    if out("git", "branch", "--show-current") != "main":
        return refuse("a release is made from the branch main")
    if out("git", "tag", "--list", f"v{version}"):
        return refuse(f"v{version} exists")
    changelog = CHANGELOG.read_text(encoding="utf-8")
    if not changelog.partition(UNRELEASED)[2].partition("\n## ")[0].strip():
        return refuse("the changelog says nothing under Unreleased")
    run("make", "test-all", "test-timing", "test-wheel")
    PYPROJECT.write_text(
        re.sub(r'(?m)^version = ".*"$', f'version = "{version}"', PYPROJECT.read_text(encoding="utf-8"), count=1), encoding="utf-8"
    )
    today = dt.datetime.now(tz=dt.UTC).date().isoformat()
    CHANGELOG.write_text(changelog.replace(UNRELEASED, f"{UNRELEASED}\n## {version} ({today})\n", 1), encoding="utf-8")
    run("git", "commit", "--all", "--message", f"Release {version}")
    run("git", "tag", "--annotate", f"v{version}", "--message", f"Lossary {version}")
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    run(sys.executable, "-m", "build", "--outdir", "dist")
    sys.stdout.write(f"v{version} is tagged and built in dist; `git push --follow-tags` and `twine upload dist/*` publish it\n")
    return 0


def refuse(reason: str) -> int:
    """Say why there is no release."""
    sys.stderr.write(f"release: {reason}\n")
    return 2


def out(*command: str) -> str:
    """What a command prints."""
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip()


def run(*command: str) -> None:
    """Run a command in the repository, or stop."""
    subprocess.run(command, check=True, cwd=ROOT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
