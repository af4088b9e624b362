"""What is optional is asked for by one sentence, and what is not stays light."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from lossary._core import extras
from lossary.errors import LossaryError, MissingPackageError

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REQUIREMENT = {"PIL": "pillow", "sklearn": "scikit-learn", "mlflow": "mlflow-skinny"}


def test_a_loss_needs_three_packages() -> None:
    names = {requirement.split(">")[0] for requirement in PROJECT["dependencies"]}
    assert names == {"torch", "numpy", "numba", "lazy_loader"}


@pytest.mark.parametrize("package", extras.PACKAGES)
def test_the_extra_that_is_named_brings_the_package(package: str) -> None:
    _, extra = extras.PACKAGES[package]
    brought = {requirement.split(">")[0].split("[")[0] for requirement in PROJECT["optional-dependencies"][extra]}
    assert REQUIREMENT.get(package, package) in brought


@pytest.mark.parametrize("package", extras.PACKAGES)
def test_a_missing_package_is_one_sentence(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    extras.require("this", package)
    monkeypatch.setitem(sys.modules, package, None)  # as Python marks what cannot be imported
    name, extra = extras.PACKAGES[package]
    with pytest.raises(MissingPackageError) as caught:
        extras.require("this", package)
    assert str(caught.value) == f"this needs {name}; install it with: pip install 'lossary[{extra}]'"
    assert isinstance(caught.value, LossaryError)
    assert isinstance(caught.value, ImportError)


def without(package: str, code: str) -> subprocess.CompletedProcess[str]:
    """Run Python as it is where a package is not installed."""
    hidden = f"import sys; sys.modules[{package!r}] = None\n{code}"
    return subprocess.run([sys.executable, "-c", hidden], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("package", "code", "sentence"),
    [
        ("typer", "from lossary.__main__ import main; main()", "lossary: the command line needs Typer"),
        ("sklearn", "import lossary; lossary.compare('digits')", "a comparison needs scikit-learn"),
        ("plotly", "import lossary; lossary.claims.run", "a claim needs Plotly"),
    ],
)
def test_the_parts_that_need_more_say_so(package: str, code: str, sentence: str) -> None:
    ran = without(package, code)
    assert ran.returncode == (2 if package == "typer" else 1)
    assert ran.stderr.strip().splitlines()[-1].removeprefix("lossary.errors.MissingPackageError: ").startswith(sentence)
    assert ("Traceback" in ran.stderr) == (package != "typer")


def test_a_loss_works_without_any_extra() -> None:
    hidden = "; ".join(f"sys.modules[{package!r}] = None" for package in extras.PACKAGES)
    code = (
        f"import sys; {hidden}\nimport torch, lossary\n"
        "for name in lossary.list_objectives(): lossary.specs()[name]\n"
        "z = torch.randn(6, 5, requires_grad=True)\n"
        "lossary.create('focal')(z, torch.tensor([0, 1, 2, 3, 4, 0])).backward()\n"
        "print(bool(z.grad.isfinite().all()), lossary.functional.sup_con(torch.randn(8, 4), torch.arange(8) // 2).item() > 0)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["True", "True"]
