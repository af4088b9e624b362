"""Build the wheel, install it into empty environments and use it: ``python tools/wheel.py`` (``make test-wheel``).

The first environment has the core alone, as a library that depends on a loss has it; the second has the extra ``compare``.
"""

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from email.parser import HeaderParser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "wheel"
TORCH = os.environ.get("TORCH", "torch==2.13.0")

CORE = """
import importlib.util, subprocess, sys
import torch, lossary
logits = torch.randn(64, 10, requires_grad=True)
lossary.create("focal")(logits, torch.randint(10, (64,))).backward()
assert logits.grad.isfinite().all()
assert lossary.functional.sup_con(torch.randn(16, 8), torch.arange(16) // 2) > 0
assert importlib.util.find_spec("sklearn") is None, "the core has brought scikit-learn along"
try:
    lossary.compare("digits")
except lossary.LossaryError as error:
    assert "pip install 'lossary[compare]'" in str(error), error
else:
    raise AssertionError("a comparison ran without its packages")
ran = subprocess.run([sys.executable, "-m", "lossary", "find", "focal"], capture_output=True, text=True)
assert ran.returncode == 2 and ran.stderr.count("\\n") == 1 and "lossary[compare]" in ran.stderr, ran
print("core", lossary.__version__, "works, and says what it lacks")
"""
COMPARE = """
import subprocess, sys
import lossary
for command in (["--version"], ["find", "overconfident"], ["show", "focal"], ["check", "squentropy"]):
    ran = subprocess.run([sys.executable, "-m", "lossary", *command], capture_output=True, text=True)
    assert ran.returncode == 0 and ran.stdout, ran
result = lossary.compare("wine", objectives=["focal"], seeds=2, epochs=2, store=None)
assert len(result.leaderboard) == 2
print("commands and comparisons work")
"""


def main() -> int:
    """Build, look inside, install twice, use."""
    shutil.rmtree(BUILD, ignore_errors=True)
    run(sys.executable, "-m", "build", "--outdir", str(BUILD), str(ROOT))
    (wheel,) = BUILD.glob("*.whl")
    check_metadata(wheel)
    python = environment("core", str(wheel))
    run(str(python), "-c", CORE)
    run(str(python), "-m", "pip", "install", "--quiet", "--constraint", str(ROOT / "constraints.txt"), f"{wheel}[compare]")
    run(str(python), "-c", COMPARE)
    return 0


def check_metadata(wheel: Path) -> None:
    """The description has no relative link, and the package brings its types and its generated files."""
    with zipfile.ZipFile(wheel) as files:
        names = files.namelist()
        metadata = next(name for name in names if name.endswith(".dist-info/METADATA"))
        text = files.read(metadata).decode()
    headers = HeaderParser().parsestr(text)
    assert headers.get_all("Project-URL"), "no project URLs"
    assert "](docs/" not in text, "a relative link in the description"
    assert "](CONTRIBUTING" not in text, "a relative link in the description"
    for needed in ("py.typed", "functional.pyi", "catalogue/registry.json", "catalogue/papers.json"):
        assert f"lossary/{needed}" in names, f"{needed} is not in the wheel"
    assert not any(name.startswith(("tests/", "docs/")) for name in names), "tests or documentation in the wheel"


def environment(name: str, *packages: str) -> Path:
    """A new environment with torch, then these packages; the path of its Python."""
    home = BUILD / name
    venv.create(home, with_pip=True)
    python = home / ("Scripts" if os.name == "nt" else "bin") / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run(*install, "--constraint", str(ROOT / "constraints.txt"), TORCH)
    run(*install, "--constraint", str(ROOT / "constraints.txt"), *packages)
    return python


def run(*command: str) -> None:
    """Run a command outside of the repository, so that nothing is imported from it."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(command, check=True, cwd=BUILD if BUILD.exists() else None, env=clean)


if __name__ == "__main__":
    sys.exit(main())
