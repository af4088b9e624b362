"""lossary list."""

import importlib.metadata
import json

import pytest
from typer.testing import CliRunner

from lossary.catalogue import FAMILIES, units
from lossary.cli import app
from lossary.errors import UnknownNameError

run = CliRunner().invoke


def test_everything_is_listed() -> None:
    result = run(app, ["list"])
    assert result.exit_code == 0
    assert all(name in result.output for _, name in units())


def test_filters() -> None:
    found = json.loads(run(app, ["list", "--family", "regression", "--takes", "weight", "--json"]).output)["units"]
    assert {unit["family"] for unit in found} == {"regression"}
    assert all("weight" in [p["name"] for p in unit["parameters"]] for unit in found)
    accepting = json.loads(run(app, ["list", "--soft-targets", "--json"]).output)["units"]
    assert all(unit["soft_targets"] for unit in accepting)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_of_the_contract_is_known(family: str) -> None:
    result = run(app, ["list", "--family", family])
    assert result.exit_code == 0
    if family not in {unit.family for unit in units().values()}:
        assert result.output == f"No {family} unit is implemented yet.\n"


def test_nothing_that_fits_is_1() -> None:
    assert run(app, ["list", "no_such_thing"]).exit_code == 1


@pytest.mark.parametrize("option", ["--family", "--kind", "--takes"])
def test_an_unknown_word_is_misuse(option: str) -> None:
    assert isinstance(run(app, ["list", option, "clasification_x"]).exception, UnknownNameError)


def test_objectives_of_other_packages_are_listed_without_importing_them(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = importlib.metadata.EntryPoint("their_loss", "a_package_that_is_not_there.losses", "lossary.objectives")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: importlib.metadata.EntryPoints([entry]))
    assert "their_loss" in run(app, ["list"]).output
    others = json.loads(run(app, ["list", "--json"]).output)["others"]
    assert others == [{"name": "their_loss", "module": "a_package_that_is_not_there.losses"}]
