"""Dependencies point one way: catalogue and core, then units, then the arena, then claims, then the command line."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "lossary"

# What each layer may import of Lossary, besides itself. A package stands for everything below it.
CORE = {
    "errors", "_domains", "_values", "_checks", "_extras", "_kernels", "_formulas", "_objective", "_registry", "_rows", "_labels",
    "_pairs", "_pairs_once", "_neighbours", "distributed",
}  # fmt: skip
# What `import lossary` offers by name.
MODULES = {
    "adversarial", "arena", "calibration", "catalogue", "claims", "data", "experiments", "functional", "losses", "metrics", "nn",
    "optim", "testing", "weighting",
}  # fmt: skip
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "_domains": {"_values", "errors"},
    "_values": {"errors"},
    "_checks": {"errors"},
    "_extras": {"errors"},
    "_objective": {"_checks", "_domains"},
    "_blocks": set(),
    "_kernels": set(),
    "_formulas": {"_kernels"},
    "_label_loops": {"_formulas", "_kernels"},
    "_one_pass": {"_blocks"},
    "_row_loops": {"_formulas", "_kernels", "_row_parts"},
    "_row_parts": {"_kernels"},
    "distributed": {"_blocks", "_checks", "errors"},
    "_neighbours": {"_objective", "_pair_distances", "_pairs", "distributed"},
    "_pairs_once": {"_blocks", "_pairs"},
    "_pair_rows": set(),
    "_pairs": {"_blocks", "_pair_rows", "_checks", "_kernels", "_objective", "distributed"},
    "_row_blocks": {"_blocks", "_objective", "_row_numbers"},
    "_row_numbers": set(),
    "_rows": {"_blocks", "_formulas", "_kernels", "_objective", "_one_pass", "_row_blocks", "_row_loops", "_row_numbers"},
    "_labels": {"_blocks", "_checks", "_formulas", "_kernels", "_label_loops", "_objective", "_one_pass"},
    "_registry": {"_domains", "_objective", "_values", "errors", "catalogue", "losses"},  # the last two only when a call needs them
    "catalogue": {"errors"},
    "_index": {*CORE, "catalogue", "claims", "functional"},
    "functional": {"_registry", "losses", "metrics"},
    "losses": {*CORE, "_blocks", "_row_parts", "weighting"},
    "metrics": {*CORE, "_blocks"},
    "optim": CORE,
    "nn": CORE,
    "calibration": CORE,
    "weighting": CORE,
    "data": CORE,
    "adversarial": CORE,
    "experiments": {*CORE, "losses", "optim", "functional"},
    "testing": {*CORE, "losses", "metrics"},
    "arena": {*CORE, "_blocks", "losses", "metrics", "catalogue"},
    "claims": CORE | MODULES - {"testing"},
    "cli": {*CORE, "arena", "catalogue", "claims", "testing"},
    "__main__": {"_extras", "cli", "errors"},
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
    import lossary

    for name in lossary.__all__:
        assert getattr(lossary, name) is not None
    assert set(lossary.__all__) <= set(dir(lossary))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = lossary.nothing
