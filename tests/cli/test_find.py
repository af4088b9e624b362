"""lossary find."""

import json

import pytest
from typer.testing import CliRunner

from lossary.cli import app
from lossary.errors import InvalidValueError

run = CliRunner().invoke


def test_text_for_people() -> None:
    result = run(app, ["find", "far", "more", "negative", "than", "positive", "labels,", "multi-label"])
    assert result.exit_code == 0
    assert "asymmetric  [available]" in result.output
    assert "because" in result.output
    assert "import    from lossary.losses import Asymmetric" in result.output
    assert "lossary compare breast_cancer --objective binary_cross_entropy --objective asymmetric" in result.output
    assert "not implemented here yet" in result.output
    assert "\x1b" not in result.output


def test_json_for_programs() -> None:
    result = run(app, ["find", "noisy labels", "--json", "--limit", "3"])
    found = json.loads(result.output)
    assert found["query"] == "noisy labels"
    assert len(found["results"]) == 3
    first = found["results"][0]
    assert {"key", "number", "title", "status", "summary", "because", "ideas", "import", "compare", "score"} <= set(first)


def test_a_misspelling_is_said() -> None:
    assert "Taking 'diferentiable' for 'differentiable'." in run(app, ["find", "diferentiable sorting"]).output


def test_nothing_found_is_1() -> None:
    result = run(app, ["find", "xqzzqx"])
    assert result.exit_code == 1
    assert result.output.startswith("Nothing found")
    assert json.loads(run(app, ["find", "xqzzqx", "--json"]).output)["results"] == []


@pytest.mark.parametrize("arguments", [["find"], ["find", "noise", "--limit", "0"]])
def test_misuse_is_2(arguments: list[str]) -> None:
    assert run(app, arguments).exit_code == 2


def test_an_empty_query_is_misuse() -> None:
    assert isinstance(run(app, ["find", " "]).exception, InvalidValueError)
