"""The suite of each kind of unit, and which one a name belongs to."""

import inspect
from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer

from lossary._core.registry import name_of, specs, units
from lossary.testing import _layers, _metrics, _optimizers, _suite
from lossary.testing._detect import load
from lossary.testing._table import Table

SUITES: Mapping[str, Table[Any]] = {
    "objective": _suite.TABLE,
    "optimizer": _optimizers.TABLE,
    "layer": _layers.TABLE,
    "diagnostic": _metrics.TABLE,
}


def kind_of(name: str) -> str:
    """The kind whose suite checks a registered name or ``module:attribute``; a module or a function is taken for an objective."""
    others = [kind for kind in SUITES if kind != "objective"]
    if ":" not in name:
        if name_of(name, specs()) in specs():
            return "objective"
        return next((kind for kind in others if name in units(kind)), "objective")
    target = load(name)
    if inspect.isclass(target) and issubclass(target, Optimizer):
        return "optimizer"
    return next((kind for kind in others if any(known.target is target for known in units(kind).values())), "objective")
