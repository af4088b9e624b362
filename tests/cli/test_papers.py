"""lossary papers."""

import json

import pytest
from typer.testing import CliRunner

from lossary.catalogue import STATUSES, load
from lossary.cli import app
from lossary.errors import UnknownNameError

run = CliRunner().invoke


def test_all_of_them_are_counted() -> None:
    found = json.loads(run(app, ["papers", "--json"]).output)
    assert sum(found["counts"].values()) == len(found["papers"]) == len(load())
    assert f"{len(load())} entries" in run(app, ["papers"]).output


@pytest.mark.parametrize("status", STATUSES)
def test_one_status(status: str) -> None:
    result = run(app, ["papers", "--status", status, "--json"])
    found = json.loads(result.output)["papers"]
    assert {paper["status"] for paper in found} <= {status}
    assert result.exit_code == (0 if found else 1)


def test_one_task_however_it_is_written() -> None:
    expected = [paper.key for paper in load() if "multi-label classification" in paper.tasks]
    found = json.loads(run(app, ["papers", "--task", "Multi_label classification", "--json"]).output)["papers"]
    assert [paper["key"] for paper in found] == expected


def test_an_unknown_word_is_misuse() -> None:
    error = run(app, ["papers", "--task", "segmentatoin"]).exception
    assert isinstance(error, UnknownNameError)
    assert "did you mean 'segmentation'" in str(error)
    assert isinstance(run(app, ["papers", "--status", "lost"]).exception, UnknownNameError)
