"""Dependencies point one way: catalogue and core, then units, then the arena, then claims, then the command line."""

import ast
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from tools import structure

import lossary
from lossary._core.kinds import KINDS

SOURCE = Path(__file__).parent.parent / "src" / "lossary"

# What each layer may import of Lossary, besides itself. A package stands for everything below it.
CORE = {"errors", "_core", "_fast", "distributed"}
# Rooms that hold units are named in the table of kinds, and may import the core; those that may import more are below.
ROOMS = {home.split(".")[1] for homes in KINDS.values() for home in homes}
# What `import lossary` offers by name.
MODULES = {name for name in dir(lossary) if isinstance(getattr(lossary, name), ModuleType)}
ALLOWED: dict[str, set[str]] = {
    **dict.fromkeys(ROOMS, CORE),
    "errors": set(),
    "_core": {"errors", "catalogue", "losses"},  # the last two only when a call needs them
    "_fast": {"errors", "_core", "distributed"},
    "distributed": {"errors", "_core", "_fast"},
    "authoring": CORE,
    "catalogue": {"errors", "_core"},
    "functional": {"_core", "losses", "metrics"},
    "losses": {*CORE, "data"},
    "experiments": {*CORE, "losses", "optim", "functional"},
    "testing": {*CORE, "losses", "metrics"},
    "arena": {*CORE, "losses", "metrics", "catalogue"},
    "claims": CORE | MODULES - {"testing"},
    "cli": {*CORE, "arena", "catalogue", "claims", "testing"},
    "__main__": {"_core", "cli", "errors"},
    "__init__": {*CORE, *MODULES},
}


def layer(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".pyi").removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Layers that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names if node.module == "lossary")]
        found |= {name.split(".")[1] for name in names if name.startswith("lossary.")}
    return found


FILES = sorted(path for path in SOURCE.rglob("*.py*") if path.suffix in (".py", ".pyi"))


def test_imports_point_one_way() -> None:
    modules = {child.stem for child in SOURCE.iterdir()}  # `from lossary import create` is a name, not a layer
    for path in FILES:
        own = layer(path)
        assert own in ALLOWED, f"say in this test what {own} may import"
        assert (imported(path) & modules) - {own} <= ALLOWED[own], path


def test_every_unit_is_one_file_with_a_line_in_its_family() -> None:
    for family in (path for path in (SOURCE / "losses").iterdir() if (path / "__init__.py").exists()):
        lines = (family / "__init__.py").read_text().splitlines()
        imports = [line for line in lines if line.startswith("from ")]
        units = [path.stem for path in sorted(family.glob("*.py")) if not path.stem.startswith("_")]
        assert [line.split()[1].rpartition(".")[2] for line in imports] == units
        for unit in units:
            assert (Path(__file__).parent / "losses" / family.name / f"test_{unit}.py").is_file(), f"{unit} has no test of its own"


def run(code: str) -> str:
    keeping = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}  # as users have it
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=keeping).stdout.strip()


def test_importing_lossary_does_not_import_torch() -> None:
    assert run("import sys, lossary, lossary.cli, lossary.catalogue; print('torch' in sys.modules)") == "False"


@pytest.mark.timing
def test_making_an_objective_costs_little_more_than_importing_torch() -> None:
    # In one process, so that the machine's mood is the same for both: torch first, then what comes on top of it.
    code = """
import time
start = time.perf_counter(); import torch
middle = time.perf_counter(); import lossary; lossary.create("focal")
print((time.perf_counter() - start) / (middle - start))
"""
    assert min(float(run(code)) for _ in range(3)) < 1.15


def test_the_library_does_not_import_what_only_commands_need() -> None:
    heavy = "{'sklearn', 'plotly', 'pyarrow', 'typer', 'rich', 'scipy', 'numba'}"
    code = f"import sys, lossary; lossary.create('focal'); print(sorted({heavy} & set(sys.modules)))"
    assert run(code) == "[]"


def test_the_public_surface_is_what_it_says() -> None:
    names = getattr(lossary, "__all__")  # noqa: B009, as type checkers see the stub alone
    for name in names:
        assert getattr(lossary, name) is not None
    assert set(names) <= set(dir(lossary))
    assert {home.split(".")[1] for homes in KINDS.values() for home in homes} <= set(names), "name the package in __init__.pyi"
    with pytest.raises(AttributeError, match="nothing"):
        getattr(lossary, "nothing")  # noqa: B009


def test_the_version_is_named_once() -> None:
    project = tomllib.loads((SOURCE.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" in project["project"]["dynamic"]
    assert project["tool"]["hatch"]["version"]["path"] == "src/lossary/__init__.py"
    said = subprocess.run([sys.executable, "-m", "lossary", "--version"], capture_output=True, text=True, check=True).stdout
    assert said == f"lossary {lossary.__version__}\n"


def test_the_pictures_show_the_imports() -> None:
    stale = [page.name for page, text in structure.contents().items() if page.read_text(encoding="utf-8") != text]
    assert not stale, f"{', '.join(stale)} out of date: run make pictures"
