"""Draw the pictures of docs/explanation from the imports: ``python tools/structure.py``; ``--check`` only names what is stale.

A page says what it wants between two marks, ``<!-- picture: lossary.arena -->`` and ``<!-- /picture -->``. The picture is a Mermaid
graph, which GitHub and most documentation tools draw. An arrow from A to B says that A imports B at its head; arrows that follow
from others are left out, and what imports each other is one box.
"""

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import networkx as nx

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src"
PAGES = ROOT / "docs" / "explanation"
MARKS = re.compile(r"(<!-- picture: (.*?) -->\n).*?(<!-- /picture -->)", re.S)
UNITS = ("losses", "optim", "nn", "metrics", "data", "adversarial", "experiments")
MOST_FILES = 12  # that a room lists by name


@cache
def modules() -> frozenset[str]:
    """The dotted names of all modules and packages."""
    found = set()
    for path in SOURCE.glob("lossary/**/*.py"):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found.add(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return frozenset(found)


def file_of(module: str) -> Path:
    """The file of a module or of a package's ``__init__``."""
    path = SOURCE.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def imported(module: str) -> frozenset[str]:
    """The modules of Lossary that a module imports at its head; in a function it is asked for only when that is called."""
    found = set()
    for node in ast.parse(file_of(module).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in modules() else node.module)
    return frozenset(found & modules() - {module})


def inside(module: str, room: str) -> bool:
    """Whether a module is a room or lies in it."""
    return module == room or module.startswith(f"{room}.")


def rooms_of(package: str) -> list[str]:
    """The modules and packages right below a package."""
    depth = package.count(".") + 1
    return sorted(name for name in modules() if inside(name, package) and name.count(".") == depth)


def edges(rooms: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Pairs of rooms of which the first imports the second."""
    rooms = list(rooms)
    for module in sorted(modules()):
        own = next((room for room in rooms if inside(module, room)), None)
        for target in imported(module) if own else ():
            yield from ((own, other) for other in rooms if own and other != own and inside(target, other))


def mermaid(arrows: Iterable[tuple[str, str]], labels: dict[str, str]) -> str:
    """A graph as Mermaid text, without the arrows that follow from others."""
    graph = nx.DiGraph()
    graph.add_nodes_from(sorted(labels))
    graph.add_edges_from(sorted(set(arrows)))
    circles = nx.condensation(graph)
    members = {node: sorted(circles.nodes[node]["members"]) for node in circles}
    rooms = sorted(members, key=members.__getitem__)
    order = {node: place for place, node in enumerate(rooms)}
    lines = ["```mermaid", "flowchart TD"]
    lines += [f'    n{order[node]}["{"<br/>".join(labels[each] for each in members[node])}"]' for node in rooms]
    reduced = nx.transitive_reduction(circles)
    lines += [f"    n{a} --> n{b}" for a, b in sorted((order[a], order[b]) for a, b in reduced.edges)]
    return "\n".join([*lines, "```", ""])


def label(room: str) -> str:
    """The name of a room, and the files in it if it is a package of few."""
    name = room.rpartition(".")[2]
    files = [each.rpartition(".")[2] for each in rooms_of(room)]
    return f"<b>{name}</b><br/>{', '.join(files)}" if 0 < len(files) <= MOST_FILES else f"<b>{name}</b>"


def picture(wanted: str) -> str:
    """The graph for what stands in a mark: a package, ``layers``, or ``users of`` a module."""
    if wanted == "layers":
        return layers()
    if wanted.startswith("users of "):
        return users(wanted.removeprefix("users of "))
    if wanted not in modules():
        raise SystemExit(f"structure: there is no package {wanted!r} to draw")
    rooms = [room for room in rooms_of(wanted) if not room.endswith("__main__")]
    return mermaid(edges(rooms), {room: label(room) for room in rooms})


def layers() -> str:
    """The house: all packages of units as one box."""
    unit_rooms = [f"lossary.{name}" for name in UNITS]
    rooms = ["errors", "catalogue", "_core", "_fast", "distributed", "arena", "testing", "claims", "cli"]
    named = {f"lossary.{name}": f"<b>{name}</b>" for name in rooms} | {"units": f"<b>units</b><br/>{', '.join(UNITS)}"}
    arrows = edges([*(f"lossary.{name}" for name in rooms), *unit_rooms])
    joined = (("units" if a in unit_rooms else a, "units" if b in unit_rooms else b) for a, b in arrows)
    return mermaid(((a, b) for a, b in joined if a != b), named)


def users(module: str) -> str:
    """The rooms that import a module, with the files in them that do."""
    found: dict[str, list[str]] = {}
    for each in sorted(modules()):
        if module in imported(each):
            room, _, name = each.rpartition(".")
            found.setdefault(room, []).append(name)
    labels = {room: f"<b>{room.removeprefix('lossary.')}</b><br/>{', '.join(names)}" for room, names in found.items()}
    labels[module] = f"<b>{module.removeprefix('lossary.')}</b>"
    return mermaid([(room, module) for room in found], labels)


def contents() -> dict[Path, str]:
    """Each page as it should be."""
    found = {}
    for page in sorted(PAGES.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        found[page] = MARKS.sub(lambda mark: f"{mark[1]}{picture(mark[2])}{mark[3]}", text)
    return found


def main(arguments: list[str]) -> int:
    """Write the pages whose pictures are out of date, or with ``--check`` name them and return 1."""
    stale = {page: text for page, text in contents().items() if page.read_text(encoding="utf-8") != text}
    for page, text in stale.items():
        sys.stdout.write(f"{page.relative_to(ROOT)} {'is out of date: run make pictures' if arguments else 'written'}\n")
        if not arguments:
            page.write_text(text, encoding="utf-8")
    return 1 if arguments and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
