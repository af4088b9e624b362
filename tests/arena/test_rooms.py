"""The arena's imports go one way: data, then the plan, then training, then the answer."""

import ast
from pathlib import Path

import pytest

import lossary.arena

HOME = Path(lossary.arena.__file__).parent
ROOMS = {
    "shared": {"_code", "statistics", "tasks"},
    "data": {
        "_arrays", "_columns", "_dataset", "_division", "_images", "_leaks", "_lists", "_npz", "_read", "_sample", "_svmlight",
        "_targets", "data", "splits",
    },
    "plan": {"choice", "networks", "protocol", "recipe", "tuning"},
    "train": {"_memory", "_record", "engine", "models", "run", "store", "train"},
    "answer": {"__init__", "across", "analysis", "export", "figures", "report", "tracking"},
}  # fmt: skip
ORDER = list(ROOMS)


def room_of(module: str) -> str:
    return next(room for room, modules in ROOMS.items() if module in modules)


@pytest.mark.parametrize("path", sorted(HOME.glob("*.py")), ids=lambda path: path.stem)
def test_a_room_imports_from_rooms_before_it_and_never_in_a_circle(path: Path) -> None:
    own = ORDER.index(room_of(path.stem))
    for module in imported(path):
        assert ORDER.index(room_of(module)) <= own, f"{path.stem} imports {module}"
        assert path.stem not in all_below(module), f"{path.stem} and {module} import each other"


def imported(path: Path) -> set[str]:
    """The arena's modules that a file imports anywhere in it."""
    prefix = "lossary.arena."
    names = [node.module or "" for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    return {name.removeprefix(prefix) for name in names if name.startswith(prefix)}


def all_below(module: str) -> set[str]:
    below: set[str] = set()
    waiting = [module]
    while waiting:
        for each in imported(HOME / f"{waiting.pop()}.py") - below:
            below.add(each)
            waiting.append(each)
    return below
