"""Units of every kind that is no objective: one spec for all, found and built by name, known without torch."""

import inspect
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

import lossary
from lossary import catalogue
from lossary._core import registry
from lossary._core.kinds import KINDS, UNITS
from lossary._core.registry import UnitSpec
from lossary.cli import app
from lossary.errors import InvalidTypeError, InvalidValueError, UnknownNameError
from lossary.optim import SignSGD

run = CliRunner().invoke
EVERY = [found for kind in UNITS for found in lossary.units(kind).values()]
each = pytest.mark.parametrize("found", EVERY, ids=lambda found: f"{found.kind}-{found.name}")


@pytest.fixture
def scratch_registry() -> Iterator[None]:
    """What a test registers is gone after it."""
    before = dict(registry._units)
    yield
    registry._units.clear()
    registry._units.update(before)


def test_a_kind_is_named_once_and_its_packages_register_units_of_it() -> None:
    for kind in UNITS:
        assert bool(lossary.units(kind)) == bool(KINDS[kind])
        for home in KINDS[kind]:
            assert any(found.target.__module__.startswith(home) for found in lossary.units(kind).values()), home


def test_a_new_kind_is_one_edit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "poem", ())
    assert run(app, ["list", "--kind", "poem"]).output == "No poem is implemented yet.\n"
    assert lossary.list_units(kind="objective") == lossary.list_objectives()


@each
def test_the_spec_agrees_with_what_it_describes(found: UnitSpec) -> None:
    namespace: dict[str, object] = {}
    exec(found.import_line, namespace)
    assert namespace[found.target.__name__] is found.target
    assert found.target.__module__.startswith(found.import_line.split()[1])
    assert [p.name for p in found.parameters] == list(inspect.signature(found.target).parameters)
    assert found.papers, "add it to the provides of its paper's record"
    if not inspect.isclass(found.target):
        assert found.name == found.target.__name__


@each
def test_the_index_knows_it(found: UnitSpec) -> None:
    unit = catalogue.units()[found.kind, found.name]
    assert unit.import_line == found.import_line
    assert unit.summary == found.summary
    assert [(p.name, p.required) for p in unit.parameters] == [(p.name, p.required) for p in found.parameters]


@each
def test_its_docstring_has_every_section(found: UnitSpec) -> None:
    docs = catalogue.docs_of(catalogue.units()[found.kind, found.name])
    names = {p.name for p in found.parameters}
    assert docs.maths
    assert docs.sections["Shape"]
    assert docs.sections["Source"]
    assert set(docs.arguments) == names


@each
def test_it_is_shown_and_listed_like_an_objective(found: UnitSpec) -> None:
    shown = json.loads(run(app, ["show", found.name, "--json"]).output)
    assert found.kind in [unit["unit"]["kind"] for unit in [shown, *shown["others"]]]
    text = run(app, ["show", found.name]).output
    assert found.import_line in text
    assert all(p.name in text for p in found.parameters)
    listed = json.loads(run(app, ["list", "--kind", found.kind, "--json"]).output)["units"]
    assert found.name in [unit["name"] for unit in listed]


def test_nothing_is_in_the_index_that_is_not_registered() -> None:
    known = {(found.kind, found.name) for found in EVERY}
    assert {pair for pair in catalogue.units() if pair[0] != "objective"} == known


def test_classes_are_built_by_name() -> None:
    weight = torch.zeros(2, requires_grad=True)
    optimizer = lossary.create("sign_sgd", kind="optimizer", params=[weight], lr=0.5)
    assert isinstance(optimizer, SignSGD)
    assert optimizer.param_groups[0]["lr"] == 0.5
    layer = lossary.create("code_wise_attention", kind="layer", hidden_dim=4, num_labels=3)
    assert layer.num_labels == 3


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        (
            "sign_sgd",
            {},
            UnknownNameError,
            "but a unit of kind 'optimizer': from lossary.optim import SignSGD",
        ),
        ("sing_sgd", {"kind": "optimizer"}, UnknownNameError, "there is no optimizer named 'sing_sgd'; did you mean 'sign_sgd'"),
        ("sign_sgd", {"kind": "optimiser"}, UnknownNameError, "no units of kind 'optimiser'; did you mean 'optimizer'"),
        (
            "pass_at_n",
            {"kind": "diagnostic"},
            InvalidTypeError,
            "called, after: from lossary.metrics import pass_at_n",
        ),
        ("sign_sgd", {"kind": "optimizer", "lr": 1.0}, InvalidTypeError, "sign_sgd: the parameter 'params' has no default"),
        (
            "sign_sgd",
            {"kind": "optimizer", "params": [], "lr": 1.0, "moment": 0.9},
            InvalidTypeError,
            "sign_sgd: there is no parameter 'moment'; did you mean 'momentum'",
        ),
    ],
)
def test_mistakes_get_a_sentence(name: str, options: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        lossary.create(name, **options)  # type: ignore[call-overload]
    assert message in str(caught.value)


def test_names_are_listed_over_kinds_or_of_one() -> None:
    assert lossary.list_units("*sgd*", kind="optimizer") == ["normalized_sgd", "rescaled_sign_sgd", "sign_sgd"]
    assert {"focal", "sign_sgd", "smooth_ece", "pgd"} <= set(lossary.list_units())
    assert lossary.list_units(kind="objective") == lossary.list_objectives()
    with pytest.raises(UnknownNameError, match="there are no units of kind 'poem'"):
        lossary.list_units(kind="poem")


@pytest.mark.usefixtures("scratch_registry")
def test_a_name_is_taken_once_in_its_kind_and_free_in_others() -> None:
    def sign_sgd(x: float) -> float:
        """Another thing of this name."""
        return x

    with pytest.raises(InvalidValueError, match=r"the optimizer is already registered by lossary\.optim\.sign_sgd\.SignSGD"):
        lossary.unit(kind="optimizer")(sign_sgd)
    assert lossary.unit(kind="diagnostic")(sign_sgd) is sign_sgd
    assert lossary.units("diagnostic")["sign_sgd"].summary == "Another thing of this name."
    with pytest.raises(InvalidValueError, match=r"sign_sgd: kind must be one of .*optimizer.*, got 'poem'"):
        lossary.unit(kind="poem")(sign_sgd)
    with pytest.raises(InvalidValueError, match="SignSGD: name must be lower case with underscores, got 'SignSGD'"):
        lossary.unit(kind="layer")(SignSGD)


def test_show_gives_every_kind_that_has_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    both = dict(catalogue.units())
    both["layer", "focal"] = replace(both["layer", "code_wise_attention"], name="focal")
    monkeypatch.setattr(sys.modules["lossary.catalogue._units"], "units", lambda: both)
    shown = json.loads(run(app, ["show", "focal", "--json"]).output)
    assert shown["unit"]["kind"] == "objective"
    assert [other["unit"]["kind"] for other in shown["others"]] == ["layer"]
    text = run(app, ["show", "focal"]).output
    assert "from lossary.losses import FocalLoss" in text
    assert "from lossary.nn import CodeWiseAttention" in text


def test_find_gives_the_import_line_of_every_kind() -> None:
    text = run(app, ["find", "heavy-tailed class imbalance Adam sign descent"]).output
    assert "from lossary.optim import NormalizedSGD, RescaledSignSGD, SignSGD" in text
    assert "from lossary.experiments import heavy_tailed_imbalance" in text


def test_asking_for_one_kind_does_not_import_the_others() -> None:
    code = "import sys, lossary; lossary.units('optimizer'); print({'lossary.losses', 'lossary.metrics'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
