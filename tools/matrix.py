"""Test the oldest and the newest versions that are supported: ``python tools/matrix.py`` (``make test-matrix``).

Each cell is an interpreter and a set of versions, in an environment of its own under ``build/matrix``. ``oldest`` has the
lower bounds of ``pyproject.toml``, read from there, so that a bound that does not hold fails here; ``newest`` has what is newest.
It runs the core of the tests: the mechanism, the suite on one loss of each family, and one comparison.

PyTorch is named by ``TORCH_OLDEST`` and ``TORCH_NEWEST``, as the build to install depends on the machine. An interpreter that is
not installed is a cell that is left out, in a sentence.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / "build" / "matrix"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TESTS = ["tests/fast", "tests/core", "tests/test_extras.py", "tests/metrics/test_smooth_ece.py", "tests/arena/test_surface.py"]
CONFORMANCE = "squentropy or sigmoid_focal or sup_con or list_net or huber"


@dataclass(frozen=True)
class Cell:
    """An interpreter, PyTorch, and whether everything else is at its lower bound."""

    name: str
    python: str
    torch: str
    oldest: bool


CELLS = (
    Cell("oldest", "python3.11", os.environ.get("TORCH_OLDEST", lower := "torch==2.13.0"), oldest=True),
    Cell("newest-3.11", "python3.11", os.environ.get("TORCH_NEWEST", lower), oldest=False),
    Cell("newest-3.12", "python3.12", os.environ.get("TORCH_NEWEST", lower), oldest=False),
    Cell("newest-3.13", "python3.13", os.environ.get("TORCH_NEWEST", lower), oldest=False),
)


def lower_bounds() -> list[str]:
    """What the project needs, at the lowest versions that it says it works with; torch is named apart."""
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["compare"]]
    bounds = (re.match(r"([\w-]+)>=([\w.]+)", each) for each in wanted)
    return [f"{found[1]}=={found[2]}.*" for found in bounds if found and found[1] != "torch"]


def run(cell: Cell) -> bool:
    """Make the environment and run the tests in it."""
    home = HOME / cell.name
    shutil.rmtree(home, ignore_errors=True)
    subprocess.run([cell.python, "-m", "venv", str(home)], check=True)
    python = str(home / ("Scripts" if os.name == "nt" else "bin") / "python")
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, cell.torch], check=True)
    versions = lower_bounds() if cell.oldest else []
    subprocess.run([*install, *versions, "--editable", f"{ROOT}[compare]", "pytest>=9", "hypothesis>=6"], check=True)
    tests = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not timing"]
    if cell.oldest:  # old libraries warn of new ones, which is not ours to mend
        tests += ["-W", "ignore::DeprecationWarning", "-W", "ignore::FutureWarning"]
    passed = [
        subprocess.run([*tests, *(each for each in TESTS if (ROOT / each).exists())], cwd=ROOT, check=False).returncode == 0,
        subprocess.run([*tests, "tests/test_conformance.py", "-k", CONFORMANCE], cwd=ROOT, check=False).returncode == 0,
    ]
    return all(passed)


def main(names: list[str]) -> int:
    """Run the cells that are named, or all; 1 if one fails."""
    failed = []
    for cell in CELLS:
        if names and cell.name not in names:
            continue
        if shutil.which(cell.python) is None:
            sys.stdout.write(f"{cell.name}: {cell.python} is not installed here, so it is left out\n")
            continue
        if not run(cell):
            failed.append(cell.name)
    sys.stdout.write(f"failed: {', '.join(failed)}\n" if failed else "every cell that could be run has passed\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
