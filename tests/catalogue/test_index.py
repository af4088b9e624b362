"""The generated files agree with the live registry."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tools import index

from lossary import catalogue, specs
from lossary.catalogue import docs_of, units
from lossary.errors import UnknownNameError


def test_the_generated_files_are_current() -> None:
    names = [path.name for path in index.stale()]
    assert not names, f"{', '.join(names)} out of date: run {index.COMMAND}"


def test_check_says_what_is_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(index, "PACKAGE", tmp_path)
    (tmp_path / "catalogue").mkdir()
    assert index.main(["--check"]) == 1
    assert "run python tools/index.py" in capsys.readouterr().out
    assert index.main([]) == 0
    assert index.main(["--check"]) == 0
    assert json.loads((tmp_path / "catalogue" / "registry.json").read_text(encoding="utf-8"))
    assert index.main(["--what"]) == 2


def test_the_index_knows_what_the_registry_knows() -> None:
    own = {name: spec for name, spec in specs().items() if spec.cls.__module__.startswith("lossary.")}
    assert {name for kind, name in units() if kind == "objective"} == set(own)
    for name, spec in own.items():
        unit = units()["objective", name]
        assert unit.import_line == spec.import_line
        assert [p.name for p in unit.parameters] == [p.name for p in spec.parameters]
        assert unit.soft_targets == spec.soft_targets


def test_every_unit_has_docs_without_being_imported() -> None:
    for unit in units().values():
        docs = docs_of(unit)
        assert docs.summary == unit.summary.replace("``", "")
        assert docs.maths
        assert "\\" not in "".join(docs.maths)
        assert docs.sections["Shape"]
        assert docs.sections["Source"]
        assert set(docs.arguments) <= {p.name for p in unit.parameters}


def test_listing_filters() -> None:
    names = [unit.name for unit in catalogue.list_units("focal")]
    assert names == sorted(name for name in specs() if "focal" in name)
    assert [unit.name for unit in catalogue.list_units("focal*")] == ["focal"]
    assert {unit.family for unit in catalogue.list_units(family="multi-label")} == {"multilabel"}
    assert all(unit.takes("ignore_index") for unit in catalogue.list_units(takes=["ignore_index"]))
    with pytest.raises(UnknownNameError, match="did you mean regression"):
        catalogue.list_units(family="regresion")
    with pytest.raises(UnknownNameError, match="no parameter named 'gama'; did you mean gamma"):
        catalogue.list_units(takes=["gama"])


def test_importing_the_catalogue_does_not_import_torch() -> None:
    program = "import sys, lossary, lossary.catalogue as c; c.find('noise'); c.list_units(); print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
