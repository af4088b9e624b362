"""lossary show."""

import json
import re

from typer.testing import CliRunner

from lossary.catalogue import load, units
from lossary.catalogue._docs import docs_of, plain_maths, plain_text
from lossary.cli import app
from lossary.errors import UnknownNameError

run = CliRunner().invoke


def test_a_registered_objective() -> None:
    result = run(app, ["show", "squentropy"])
    assert result.exit_code == 0
    for part in (
        "l(z, y) = -log softmax(z)_y + (1 / (C-1)) sum_(j != y) z_j^2",
        "logits (N, C, *)",
        "label_smoothing=0.0",
        "a number from 0 to 1",
        "from lossary.losses import SquentropyLoss",
        'lossary.create("squentropy")',
        "lossary compare digits --objective cross_entropy --objective squentropy",
        "arXiv:2302.03952",
    ):
        assert part in result.output


def test_parameters_of_other_types() -> None:
    assert "there is no gradient; two numbers from -80 to 80, the lower one first" in " ".join(
        run(app, ["show", "gumbel_optimized"]).output.split()
    )
    assert "samples; a process group or 'world' or None" in " ".join(run(app, ["show", "circle"]).output.split())
    assert re.search(r"'adam', 'sign'\)  which", run(app, ["show", "heavy_tailed_imbalance"]).output)


def test_maths_in_plain_text() -> None:
    for formula, shown in (
        (r"\frac12 \log \frac1n + \tfrac1\alpha + \tfrac{1}{2}", "(1 / 2) log (1 / n) + (1 / alpha) + (1 / 2)"),
        (r"\frac{e^{s_{ii} / \tau}}{\sum_j e^{s_{ij} / \tau}}", "((e^(s_ii / tau)) / (sum_j e^(s_ij / tau)))"),
        (r"\mathrm{KL}\Bigl(p \| q\Bigr) \mu\delta", "KL(p | q) mu delta"),
        (r"w^\top x \leftarrow \big[ \langle a, b \rangle \big]", "w^T x <- [< a, b >]"),
        (r"x_i \sim U[0, 1]^d", "x_i ~ U[0, 1]^d"),
    ):
        assert plain_maths(formula) == [shown]
    assert plain_text(r"gains :math:`\delta_{ij}` and :class:`torch.nn.Linear`") == "gains delta_ij and torch.nn.Linear"


def test_no_formula_keeps_the_marks_of_its_source() -> None:
    for unit in units().values():
        docs = docs_of(unit)
        for line in (*docs.maths, *docs.text):
            assert not re.search(r"frac\b|[bB]ig[lr]?\b|arrow\b|\\(?!n)", line), (unit.name, line)


def test_a_record_that_is_not_implemented() -> None:
    missing = next(paper for paper in load() if paper.status == "missing")
    result = run(app, ["show", missing.key])
    assert result.exit_code == 0
    assert "not implemented here yet" in result.output
    assert "import" not in result.output.replace("Nothing to import", "").split("\n\n")[0]


def test_every_unit_can_be_shown() -> None:
    for _, name in units():
        found = json.loads(run(app, ["show", name, "--json"]).output)
        assert found["unit"]["name"] == name
        assert found["unit"]["maths"], name
        assert found["papers"], name
        assert run(app, ["show", name]).exit_code == 0, name


def test_every_record_can_be_shown() -> None:
    for paper in load():
        assert run(app, ["show", paper.key]).exit_code == 0, paper.key
        assert json.loads(run(app, ["show", paper.key, "--json"]).output)["papers"], paper.key


def test_a_misspelt_name_gets_suggestions() -> None:
    error = run(app, ["show", "squentropi"]).exception
    assert isinstance(error, UnknownNameError)
    assert "did you mean 'squentropy'" in str(error)
