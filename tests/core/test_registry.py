"""One registry: names, suggestions, filters, other packages' objectives, and no name twice."""

import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

import lossary
from lossary import functional, specs
from lossary._core import registry
from lossary._core.registry import spec
from lossary.catalogue import entry
from lossary.cli import app
from lossary.errors import InvalidTypeError, InvalidValueError, LossaryError, UnknownNameError
from lossary.testing import subject_of


@pytest.fixture
def scratch_registry() -> Iterator[None]:
    """What a test registers is gone after it."""
    lossary.specs()
    before = dict(registry._specs)
    yield
    registry._specs.clear()
    registry._specs.update(before)


def test_create_builds_the_module_with_its_parameters() -> None:
    loss = lossary.create("focal", gamma=3.0, reduction="sum")
    assert type(loss).__name__ == "FocalLoss"
    assert loss.hyperparameters()["gamma"] == 3.0
    assert loss.name == "focal"


@pytest.mark.parametrize("name", functional.BESIDE)
def test_functions_beside_the_objectives(name: str) -> None:
    assert getattr(functional, name).__name__ == name
    assert name in dir(functional)
    assert name not in lossary.specs()


@pytest.mark.parametrize("name", lossary.list_objectives())
def test_the_spec_agrees_with_the_class(name: str) -> None:
    spec = lossary.specs()[name]
    assert spec.cls.name == name
    assert spec.cls.__name__.endswith("Loss")
    assert spec.function.__name__ == name
    assert getattr(lossary.functional, name) is spec.function
    loss = subject_of(name).make()  # with what it has to be given made up
    assert isinstance(loss, lossary.Objective)
    assert list(loss.hyperparameters()) == [parameter.name for parameter in spec.parameters]
    assert name in spec.summary.lower().replace(" ", "_") or spec.summary
    namespace: dict[str, object] = {}
    exec(spec.import_line, namespace)
    assert namespace[spec.cls.__name__] is spec.cls
    assert spec.papers


def test_specs_are_frozen() -> None:
    spec = lossary.specs()["focal"]
    with pytest.raises(AttributeError):
        spec.name = "other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        spec.waivers["gradcheck"] = "no"  # type: ignore[index]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: lossary.create("squentropi"),
            UnknownNameError,
            "there is no objective named 'squentropi'; did you mean 'squentropy'",
        ),
        (lambda: lossary.create("zzz"), UnknownNameError, "there is no objective named 'zzz'"),
        (lambda: lossary.create("focal", gama=1.0), InvalidTypeError, "focal: there is no parameter 'gama'; did you mean 'gamma'?"),
        (lambda: lossary.create("focal", zzz=1.0), InvalidTypeError, "focal: there is no parameter 'zzz'; it takes gamma, weight,"),
        (lambda: lossary.list_objectives(family="classifcation"), UnknownNameError, "did you mean 'classification'"),
        (lambda: functional.__getattr__("squentropi"), AttributeError, "did you mean 'squentropy'"),
    ],
)
def test_misspelt_names_get_a_suggestion(call, error: type[Exception], message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)


def test_listing_by_wildcard_and_by_what_an_objective_can_do() -> None:
    assert lossary.list_objectives("*focal*") == ["dual_focal", "focal", "poly_focal", "sigmoid_focal"]
    assert set(lossary.list_objectives(family="regression")) == {"huber", "log_cosh", "mean_absolute_error", "mean_squared_error"}
    assert "focal" in lossary.list_objectives(takes=["gamma", "ignore_index"])
    assert "huber" not in lossary.list_objectives(takes="ignore_index")
    assert set(lossary.list_objectives(proper=True)) >= {"cross_entropy", "binary_cross_entropy", "mean_squared_error"}
    assert lossary.list_objectives("no_such_*") == []


def test_every_user_error_is_also_the_built_in_one() -> None:
    assert issubclass(InvalidValueError, LossaryError)
    assert issubclass(InvalidValueError, ValueError)
    assert issubclass(InvalidTypeError, TypeError)
    assert issubclass(UnknownNameError, LookupError)


def mine(logits: Tensor, target: Tensor, *, power: float = 1.0) -> Tensor:
    """The pure function behind a loss that only tests know."""
    return lossary.functional.cross_entropy(logits, target) ** power


class MineLoss(lossary.SoftmaxObjective):
    """A loss that only tests know."""

    def __init__(self, *, power: float = 1.0):
        super().__init__(power=power)


@pytest.mark.usefixtures("scratch_registry")
def test_somebody_elses_objective_is_one_like_any_other() -> None:
    registered = lossary.objective(family="classification", function=lossary.formula(mine))(MineLoss)
    loss = lossary.create("mine", power=2.0)
    assert isinstance(loss, registered)
    assert loss(torch.zeros(3, 4), torch.tensor([0, 1, 2])).item() == pytest.approx(1.3862943**2)
    assert pickle.loads(pickle.dumps(loss)).power == 2.0
    assert "mine" in lossary.list_objectives()
    assert lossary.specs()["mine"].import_line == f"from {__name__} import MineLoss"


@pytest.mark.usefixtures("scratch_registry")
def test_a_name_is_taken_once() -> None:
    def focal(logits: Tensor, target: Tensor) -> Tensor:
        return logits.sum() + target.sum()

    with pytest.raises(
        InvalidValueError, match=r"focal: the name is already registered by lossary\.losses\.classification\.focal\.FocalLoss"
    ):
        lossary.objective(family="classification", function=focal)(MineLoss)
    with pytest.raises(InvalidValueError, match="family must be one of"):
        lossary.objective(family="poetry", function=mine)(MineLoss)


PLUGIN = '''
from torch import Tensor
import lossary

@lossary.formula
def shouted(logits: Tensor, target: Tensor, *, volume: float = 2.0) -> Tensor:
    """Louder."""
    return volume * lossary.functional.cross_entropy(logits, target)

@lossary.objective(family="classification", function=shouted)
class ShoutedLoss(lossary.SoftmaxObjective):
    """Cross-entropy, louder."""

    def __init__(self, *, volume: float = 2.0):
        super().__init__(volume=volume)
'''


def install(folder: Path, module: str, source: str) -> None:
    """What an installer leaves of a package that names an entry point."""
    (folder / f"{module}.py").write_text(source)
    information = folder / f"{module}-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[lossary.objectives]\nshouted = {module}\n")


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(folder)!r})\n{code}"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_another_package_registers_through_its_entry_point(tmp_path: Path) -> None:
    install(tmp_path, "shouting", PLUGIN)
    done = run("import lossary; print('shouted' in lossary.list_objectives(), lossary.create('shouted', volume=3.0))", tmp_path)
    assert done.stdout == "True ShoutedLoss(volume=3.0)\n", done.stderr


def test_a_broken_package_warns_and_does_no_harm(tmp_path: Path) -> None:
    install(tmp_path, "broken", "raise RuntimeError('out of order')")
    done = run("import lossary; print(lossary.create('focal').gamma)", tmp_path)
    assert done.stdout == "2.0\n"
    assert "the objective 'shouted' of another package could not be loaded: out of order" in done.stderr


def test_aliases_are_names_of_nothing_else_and_find_their_objective_everywhere() -> None:
    aliases = [alias for found in specs().values() for alias in found.aliases]
    assert len({*aliases, *specs()}) == len(aliases) + len(specs())
    assert aliases
    for found in specs().values():
        for alias in found.aliases:
            assert spec(alias) is found
            assert getattr(functional, alias) is found.function
            assert found.name in [name for names in entry(alias).provides.values() for name in names]
            assert json.loads(CliRunner().invoke(app, ["show", alias, "--json"]).output)["unit"]["name"] == found.name


FIRST_USE = """
import sys, threading
import lossary, torch
from lossary._core.kinds import KINDS
torch.set_num_threads(1)
sys.setswitchinterval(1e-6)
homely = sorted(kind for kind, homes in KINDS.items() if homes)
kinds, found, start = homely * 4, [], threading.Barrier(4 * len(homely) + 4)

def ask(kind):
    start.wait()
    found.append((kind, lossary.list_units(kind=kind)))

def call():
    start.wait()
    lossary.functional.squentropy(torch.zeros(2, 3), torch.tensor([0, 1]))
    found.append(("objective", lossary.list_objectives()))

threads = [threading.Thread(target=ask, args=(kind,)) for kind in kinds] + [threading.Thread(target=call) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(found) - len(threads), [kind for kind, names in found if names != lossary.list_units(kind=kind) or not names])
"""


def test_first_use_from_many_threads_finds_every_name(tmp_path: Path) -> None:
    install(tmp_path, "asking", f"import lossary\nassert lossary.list_objectives()\n{PLUGIN}")  # asks while it is imported
    done = run(FIRST_USE, tmp_path)
    assert done.stdout == "0 []\n", done.stderr
    assert done.stderr == ""
