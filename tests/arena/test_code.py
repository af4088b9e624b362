"""The key of kept work changes with all code that the work can reach, and with no other."""

import ast
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import lossary
from lossary.arena import code, load
from lossary.arena.code import NOT_MEASURING, code_of, modules_of
from lossary.arena.plan.protocol import UNIT_OF_WORK, make_protocol
from lossary.arena.tasks import Candidate
from lossary.errors import LossaryError

SOURCE = Path(lossary.__file__).parent
REACHED = {
    "the objective": "losses/classification/focal.py",
    "a helper of its family": "losses/classification/_common.py",
    "the base class": "_core/objective.py",
    "the core's rule": "_fast/classes/rule.py",
    "the compiled loop": "_fast/classes/loop.py",
    "the tracing of formulas": "_fast/tracing.py",
    "the unit of work": "arena/train/unit_of_work.py",
    "the training loop": "arena/train/loop.py",
    "the recorded step": "arena/train/record.py",
    "the models": "arena/train/models.py",
    "the arena's metrics": "arena/tasks.py",
    "a metric": "metrics/smooth_ece.py",
    "the splits": "arena/data/splits.py",
    "the division": "arena/data/division.py",
    "the data": "arena/data/dataset.py",
    "the reading of files": "arena/data/read.py",
}
NOT_REACHED = {
    "the command": "cli/compare.py",
    "another objective": "losses/classification/squentropy.py",
    "the list of a family": "losses/classification/__init__.py",
    "the choice of candidates": "arena/plan/choice.py",
    "the report": "arena/answer/report.py",
    "the store": "arena/train/store.py",
    "the catalogue": "catalogue/__init__.py",
    "a claim": "claims/papers/squentropy.py",
}

# Each file is edited in turn. Nothing is trained: only whether it would be matters.
SCRIPT = """
import json, sys
from pathlib import Path
import numpy as np
import lossary
from lossary.arena.data import load
from lossary.arena.train import engine
from lossary.arena.plan.protocol import make_protocol
from lossary.arena.train.unit_of_work import Unit
from lossary.arena.train.store import Store

home = Path(lossary.__file__).parent
assert home == Path(sys.argv[2]), home
data, done = load("wine"), []
protocol = make_protocol(data, objectives=["focal"])

def run_unit(protocol, candidate, *rest):
    done.append(candidate.label)
    return Unit(candidate, *[np.zeros(1)] * 5, {}, *[np.zeros(1)] * 2, True, "", 0.0, 0.0, 0)

def work():
    done.clear()
    store = Store(Path(sys.argv[1]))
    engine.run_protocol(data, protocol, store)
    store.close()
    return list(done)

engine.run_unit = run_unit
first, answers = work(), {}
for file in sys.argv[3:]:
    text = (home / file).read_text()
    (home / file).write_text(text.replace('\"\"\"', '\"\"\"Edited. ', 1))
    edited = work()
    (home / file).write_text(text)
    answers[file] = [edited, work()]
print(json.dumps([first, answers]))
"""


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], dict[str, list[list[str]]]]:
    """The objectives that a comparison trained: at first; and for each file after its edit and after that was undone."""
    home = tmp_path_factory.mktemp("copy")
    copy = home / "lossary"
    shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (home / "work.py").write_text(SCRIPT)
    files = [*REACHED.values(), *NOT_REACHED.values()]
    done = subprocess.run(
        [sys.executable, str(home / "work.py"), str(home / "arena.sqlite"), str(copy), *files],
        env={**os.environ, "PYTHONPATH": str(home)},
        cwd=home,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    first, answers = json.loads(done.stdout)
    return first, answers


@pytest.mark.parametrize("file", REACHED.values(), ids=REACHED)
def test_after_an_edit_of_what_the_work_reaches_it_is_done_again(
    worked: tuple[list[str], dict[str, list[list[str]]]], file: str
) -> None:
    first, answers = worked
    edited, restored = answers[file]
    assert first == ["cross_entropy", "focal"]
    assert "focal" in edited
    assert restored == []  # under its old key it is still there


@pytest.mark.parametrize("file", NOT_REACHED.values(), ids=NOT_REACHED)
def test_after_an_edit_of_anything_else_it_is_not(worked: tuple[list[str], dict[str, list[list[str]]]], file: str) -> None:
    assert worked[1][file] == [[], []]


def test_every_import_statement_is_seen() -> None:
    """The scan sees what the parser sees, in all files of Lossary and in these tests."""
    for path in [*SOURCE.rglob("*.py"), *Path(__file__).parent.glob("*.py")]:
        text = path.read_text()
        seen = {(each.home, each.name, each.bound) for each in code._imports(text, "here.package")}
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom):
                home = node.module if not node.level else code._absolute("." * node.level + (node.module or ""), "here.package")
                assert {(home, each.name, each.asname or each.name) for each in node.names} <= seen, path
            elif isinstance(node, ast.Import):
                assert {(each.name, "", each.asname or each.name.partition(".")[0]) for each in node.names} <= seen, path


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("import a, b.c as d  # and e", {("a", "", "a"), ("b.c", "", "d")}),
        ("import a.b", {("a.b", "", "a")}),
        ("from .x import (y,  # of (x)\n    z as w,\n)", {("top.pack.x", "y", "y"), ("top.pack.x", "z", "w")}),
        ("from .. import x", {("top", "x", "x")}),
        ("from ..x import *", {("top.x", "*", "*")}),
        ("from a import b, \\\n    c", {("a", "b", "b"), ("a", "c", "c")}),
        ("try: import a; from b import c\nexcept ImportError: pass", {("a", "", "a"), ("b", "c", "c")}),
        ("    import a", {("a", "", "a")}),
        ("# import a", set()),
        (">>> import a", set()),
    ],
)
def test_statements(statement: str, expected: set[tuple[str, str, str]]) -> None:
    assert {(each.home, each.name, each.bound) for each in code._imports(statement, "top.pack")} == expected


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Somebody's own modules: a loss that reaches a helper, which reaches another one inside a function."""
    files = {
        "mine.py": "import numpy\nimport torch\nfrom team import parts as p\n\ndef loss(z, y):\n    return p.scaled(z).sum()\n",
        "team/__init__.py": "FACTOR = 2\n",
        "team/parts.py": "def scaled(z):\n    from . import deep\n    return deep.twice(z)\n",
        "team/deep.py": "import lossary\n\ndef twice(z):\n    return lossary.functional.focal(2 * z, z)\n",
        "team/beside.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name == "mine" or name.split(".")[0] == "team"]:
        del sys.modules[name]


def test_modules_of_the_user_are_followed(project: Path) -> None:
    import mine  # type: ignore[import-not-found]

    reached = modules_of(mine.loss)
    assert {name for name in reached if not name.startswith("lossary")} == {"mine", "team", "team.parts", "team.deep"}
    assert "lossary.losses.classification.focal" in reached
    assert "lossary.losses.classification.squentropy" not in reached
    key = code_of(mine.loss)
    for name, changes in {"mine": True, "team/__init__": True, "team/parts": True, "team/deep": True, "team/beside": False}.items():
        file = project / f"{name}.py"
        text = file.read_text()
        file.write_text(f"{text}\n# another line\n")
        assert (code_of(mine.loss) != key) == changes, name
        file.write_text(text)
        assert code_of(mine.loss) == key


def test_a_model_of_the_user_is_a_part_of_the_work(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    (project / "nets.py").write_text(
        "from torch import nn\nfrom team.parts import scaled\n\ndef net(shape, outputs):\n    return nn.Linear(shape[0], outputs)\n"
    )
    data = load("wine")

    def key() -> str:
        return make_protocol(data, objectives=["focal"], model="nets:net").unit_key(Candidate("focal"))

    before = key()
    assert key() == before
    (project / "team" / "parts.py").write_text("def scaled(z):\n    return z\n")
    assert key() != before


def test_the_version_of_an_installed_package_counts(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mine

    key = code_of(mine.loss)
    for package, changes in {"torch": True, "numpy": True, "numba": True, "sklearn": True, "rich": False}.items():
        with monkeypatch.context() as changed:
            original = code._version
            changed.setattr(code, "_version", lambda name, of=package, was=original: "0" if name == of else was(name))
            assert (code_of(mine.loss) != key) == changes, package


def test_code_without_a_file_is_refused(project: Path) -> None:
    import mine
    import team.deep  # type: ignore[import-not-found]  # noqa: F401

    (project / "team" / "deep.py").unlink()
    with pytest.raises(LossaryError, match=r"^team\.deep: its source file cannot be read, so that kept work could not be told"):
        code_of(mine.loss)
    with pytest.raises(LossaryError, match=r"^lossary\.arena\.no_such_module: its source file cannot be read"):
        code_of("lossary.arena.no_such_module")


def test_modules_that_are_named_exist() -> None:
    for name in (*NOT_MEASURING, *UNIT_OF_WORK):
        assert code._file_of(name.removesuffix(".")) is not None, name


@pytest.mark.timing
def test_a_key_takes_less_time_than_parsing_its_files() -> None:
    roots = (*UNIT_OF_WORK, lossary.specs()["focal"].cls)
    files = [code._source_of(module).text for module in modules_of(*roots)]
    ratios = []
    for _ in range(5):
        code._read.cache_clear()
        started = time.process_time()
        code_of(*roots)
        middle = time.process_time()
        for text in files:
            ast.parse(text)
        ratios.append((middle - started) / (time.process_time() - middle))
    assert sorted(ratios)[2] < 1
