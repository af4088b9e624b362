"""A package of somebody else imports ``lossary.authoring`` alone, and its loss is one like ours, as fast as ours."""

import json
import os
import subprocess
import sys
from pathlib import Path

import lossary.authoring

TOY = r'''
"""Somebody else's loss."""
from lossary.authoring import (
    Fraction, NonNegative, Reduction, Rows, SoftmaxObjective, SpecialCase, Tensor, Vector, average_over_rows, check_class_inputs,
    formula, objective,
)

@formula
def damped(
    logits: Tensor, target: Tensor, *, strength: NonNegative = 2.0, weight: Tensor | None = None, ignore_index: int = -100,
    label_smoothing: Fraction = 0.0, reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`DampedLoss`."""
    check_class_inputs("damped", logits, target, weight)
    def if_class(row: Rows) -> Tensor:
        return -row.log_p * (1 + strength * row.log_p.exp())
    return average_over_rows(
        logits, target, if_class, weight=weight, ignore_index=ignore_index, label_smoothing=label_smoothing, reduction=reduction
    )

@objective(family="classification", function=damped, special_cases=[SpecialCase({"strength": 0.0}, "cross_entropy")])
class DampedLoss(SoftmaxObjective):
    r"""Cross-entropy that weighs samples by their own probability.

    .. math:: \ell(z, y) = -(1 + s p_y) \log p_y

    Args:
        strength: s; 0 is cross-entropy.
        weight, ignore_index, label_smoothing, reduction: as in :class:`torch.nn.CrossEntropyLoss`.
    Shape: logits (N, C, \*); target (N, \*) class indices, or (N, C, \*) probabilities.
    Units: nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: a test.

    >>> DampedLoss().name
    'damped'
    """

    def __init__(
        self, *, strength: NonNegative = 2.0, weight: Vector | None = None, ignore_index: int = -100,
        label_smoothing: Fraction = 0.0, reduction: Reduction = "mean",
    ):
        super().__init__(
            strength=strength, weight=weight, ignore_index=ignore_index, label_smoothing=label_smoothing, reduction=reduction
        )
'''
USE = """
import json, torch, lossary
torch.set_num_threads(1)
from lossary._fast.classes import rule as _rows
from lossary.testing import CHECKS, check_objective
loops = []
kept = _rows._loop_of
def spied(*given):
    loops.append(kept(*given))
    return loops[-1]
_rows._loop_of = spied
torch.manual_seed(0)
z, y = torch.randn(4096, 64, requires_grad=True), torch.randint(64, (4096,))
loss = lossary.create("damped", weight=[1.0] * 64)
value = loss(z, y)
value.backward()
log_p = z.detach().double().log_softmax(1).gather(1, y[:, None])
plain = -(log_p * (1 + 2 * log_p.exp())).mean()
only = [check for check in CHECKS if check not in ("compiles_whole", "distributed_data_parallel", "half_precision_maps")]
card = check_objective("damped", only=only)
print(json.dumps({"value": value.item(), "plain": plain.item(), "loops": [loop is not None for loop in loops],
    "failed": {r.check: r.detail for r in card.failures}, "passed": card.counts["passed"],
    "listed": "damped" in lossary.list_objectives(),
    "docs": lossary.functional.damped.__doc__.splitlines()[0]}))
"""


def test_a_loss_of_another_package_is_as_good_as_ours(tmp_path: Path) -> None:
    (tmp_path / "toy_losses.py").write_text(TOY, encoding="utf-8")
    information = tmp_path / "toy_losses-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: toy_losses\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[lossary.objectives]\ndamped = toy_losses\n")
    assert [line for line in TOY.splitlines() if line.startswith(("import", "from"))] == ["from lossary.authoring import ("]
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", USE],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": paths},
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert abs(found["value"] - found["plain"]) < 1e-5
    assert found["loops"]
    assert all(found["loops"]), "no compiled loop was made of it"
    assert found["failed"] == {}
    assert found["passed"] > 20
    assert found["listed"]
    assert found["docs"] == "Cross-entropy that weighs samples by their own probability."


def test_every_name_is_described_and_there() -> None:
    assert sorted(lossary.authoring.__all__) == lossary.authoring.__all__
    for name in lossary.authoring.__all__:
        assert getattr(lossary.authoring, name) is not None
