"""The arena's imports go one way: data, then the plan, then training, then the answer."""

import ast
from pathlib import Path

import pytest

import lossary.arena

HOME = Path(lossary.arena.__file__).parent
ORDER = ["shared", "data", "plan", "train", "answer"]


def module_of(path: Path) -> str:
    parts = path.relative_to(HOME).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


FILES = {module_of(path): path for path in HOME.rglob("*.py")}


def room_of(module: str) -> str:
    """The room of a module; what uses all of them is part of the answer, other files beside the rooms are shared by all."""
    room = module.partition(".")[0]
    return "answer" if room == "__init__" else room if room in ORDER else "shared"


@pytest.mark.parametrize("module", sorted(FILES))
def test_a_room_imports_from_rooms_before_it_and_never_in_a_circle(module: str) -> None:
    own = ORDER.index(room_of(module))
    for other in imported(module):
        assert ORDER.index(room_of(other)) <= own, f"{module} imports {other}"
        assert module not in all_below(other), f"{module} and {other} import each other"


def test_every_folder_is_a_room() -> None:
    assert {path.name for path in HOME.iterdir() if (path / "__init__.py").exists()} == set(ORDER) - {"shared"}


def imported(module: str) -> set[str]:
    """The arena's modules that a file imports anywhere in it."""
    prefix = "lossary.arena."
    found = set()
    for node in ast.walk(ast.parse(FILES[module].read_text())):
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.", *(f"{node.module}.{alias.name}." for alias in node.names)]
            found |= {name.removeprefix(prefix).rstrip(".") for name in names if name.startswith(prefix)}
    return found & set(FILES)


def all_below(module: str) -> set[str]:
    below: set[str] = set()
    waiting = [module]
    while waiting:
        for each in imported(waiting.pop()) - below:
            below.add(each)
            waiting.append(each)
    return below
