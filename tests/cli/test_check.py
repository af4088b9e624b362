"""lossary check: what is printed, and the exit code."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lossary.cli import app
from lossary.errors import LossaryError
from lossary.testing import CHECKS, subject_of

LOSS = """
import torch
class MyLoss(torch.nn.Module):
    def __init__(self, power: float = 2.0):
        super().__init__()
        self.power = power
    def forward(self, prediction, target):
        return (prediction - target).abs().pow(self.power).mean()
"""


@pytest.fixture(autouse=True)
def _restored_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["check", *arguments], env={"COLUMNS": "200"})
    if isinstance(result.exception, LossaryError):
        raise result.exception
    return result.exit_code, result.output


def test_a_registered_name_passes() -> None:
    code, output = run("focal", "--only", "empty_batch", "--only", "special_cases")
    assert code == 0
    assert "focal (classification)" in output
    assert "2 passed" in output


def test_a_failure_is_exit_code_one() -> None:
    code, output = run("torch.nn:CrossEntropyLoss", "--only", "empty_batch")
    assert code == 1
    assert "nan instead of 0" in output
    assert "1 failed" in output


def test_json() -> None:
    code, output = run("torch.nn:MSELoss", "--only", "permutation_of_the_batch", "--json")
    card = json.loads(output)
    assert code == 0
    assert card["family"] == "regression"
    assert card["results"][0]["check"] == "permutation_of_the_batch"


def test_the_checks_are_listed() -> None:
    code, output = run("--list")
    assert code == 0
    assert all(name in output for name in CHECKS)
    code, output = run("--list", "--json")
    assert list(json.loads(output)) == list(CHECKS)


def test_a_module_of_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_checked_loss.py").write_text(LOSS)
    monkeypatch.chdir(tmp_path)
    code, output = run(
        "my_checked_loss:MyLoss", "--param", "power=4", "--only", "duplicated_batch", "--only", "distributed_data_parallel"
    )
    assert code == 0, output
    assert "gradient factor 1" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name a loss"),
        (("fcal",), "did you mean 'focal'"),
        (("focal", "--param", "gamma"), "name=value"),
        (("focal", "--param", "gamma=[1"), "must be JSON"),
        (("focal", "--param", "gamma=much"), "gamma must be"),
        (("focal", "--only", "nothing"), "no check named"),
        (("focal", "--family", "survival"), "no family named"),
    ],
)
def test_misuse(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(LossaryError, match=message):
        run(*arguments)


def test_exit_codes_and_one_line_for_misuse() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lossary", "check", "fcal"], capture_output=True, text=True, timeout=1800, check=False
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("lossary: there is no objective named 'fcal'")


def test_help_imports_no_torch() -> None:
    program = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from lossary.cli import app\n"
        "for arguments in (['--help'], ['check', '--help']):\n"
        "    assert CliRunner().invoke(app, arguments).exit_code == 0\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=1800, check=False).returncode == 0


def test_a_loss_is_checked_under_any_spelling_of_its_name() -> None:
    assert subject_of("FocalLoss").name == subject_of("focal").name == "focal"
    assert subject_of("ce").name == "cross_entropy"
