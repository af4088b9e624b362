"""What an editor and ``help`` show of a loss: formula, arguments with shapes, and signatures that can be read."""

import ast
import inspect
import pydoc
from pathlib import Path

import pytest

import lossary
from lossary import functional, specs

NAMES = lossary.list_objectives()
STUB = ast.parse(Path(functional.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
IN_STUB = {node.name: node for node in STUB.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("name", NAMES)
def test_a_function_says_what_it_computes(name: str) -> None:
    spec = specs()[name]
    docs = inspect.getdoc(spec.function) or ""
    assert docs.startswith(spec.summary)
    assert ".. math::" in docs
    assert ">>>" not in docs
    arguments = docs.partition("\nArgs:\n")[2].partition("\nShape:")[0]
    for taken in inspect.signature(spec.function).parameters:
        assert taken in arguments, taken
    for parameter in spec.parameters:  # what only sizes the module's own weights is none of the function's
        if parameter.name not in inspect.signature(spec.function).parameters:
            assert f"    {parameter.name}: " not in arguments, parameter.name


@pytest.mark.parametrize("name", NAMES)
def test_the_stub_shows_the_same(name: str) -> None:
    assert ast.get_docstring(IN_STUB[name]) == inspect.getdoc(specs()[name].function)
    arguments = IN_STUB[name].args
    every = [*(each.arg for each in arguments.args), *(each.arg for each in arguments.kwonlyargs)]
    assert every == list(inspect.signature(specs()[name].function).parameters)


@pytest.mark.parametrize("name", NAMES)
def test_forward_has_a_docstring(name: str) -> None:
    docs = specs()[name].cls.forward.__doc__
    assert docs
    assert docs.startswith("Compute the loss")


@pytest.mark.parametrize("name", NAMES)
def test_signatures_can_be_read(name: str) -> None:
    spec = specs()[name]
    for shown in (pydoc.render_doc(spec.function), str(inspect.signature(spec.cls)), str(inspect.signature(spec.cls.__init__))):
        assert "Annotated" not in shown
        assert "Interval" not in shown


def test_an_example_of_each_is_as_expected() -> None:
    assert "gamma: float = 2.0" in str(inspect.signature(functional.focal))
    docs = inspect.getdoc(functional.focal) or ""
    assert (
        "    logits: (N, C, \\*).\n    target: (N, \\*) class indices, or (N, C, \\*) probabilities.\n    gamma: how strongly"
        in docs
    )
    forward = inspect.getdoc(specs()["arcface"].cls.forward) or ""
    assert "normalized softmax" in (inspect.getdoc(functional.arcface) or "")
    assert forward.startswith("Compute the loss")


def test_units_of_other_kinds_have_readable_signatures_too() -> None:
    for kind in ("optimizer", "layer", "diagnostic", "data_rule"):
        for found in lossary.units(kind).values():
            assert "Annotated" not in str(inspect.signature(found.target)), found.name
