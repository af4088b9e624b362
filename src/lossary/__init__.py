"""Lossary: the working glossary of training objectives.

Names are resolved when first used, so that ``import lossary`` costs nothing and the catalogue answers without torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lossary import (
        adversarial,
        arena,
        calibration,
        catalogue,
        claims,
        data,
        distributed,
        functional,
        losses,
        metrics,
        nn,
        optim,
        testing,
        weighting,
    )
    from lossary._domains import formula
    from lossary._objective import IdentityObjective, Objective, SigmoidObjective, SoftmaxObjective
    from lossary._registry import Spec, UnitSpec, create, list_objectives, list_units, objective, specs, unit, units
    from lossary._values import check_values
    from lossary.arena import compare
    from lossary.errors import LossaryError

__version__ = "0.1.0"

_HOMES = {
    "IdentityObjective": "lossary._objective",
    "LossaryError": "lossary.errors",
    "Objective": "lossary._objective",
    "SigmoidObjective": "lossary._objective",
    "SoftmaxObjective": "lossary._objective",
    "Spec": "lossary._registry",
    "UnitSpec": "lossary._registry",
    "check_values": "lossary._values",
    "compare": "lossary.arena",
    "create": "lossary._registry",
    "formula": "lossary._domains",
    "list_objectives": "lossary._registry",
    "list_units": "lossary._registry",
    "objective": "lossary._registry",
    "specs": "lossary._registry",
    "unit": "lossary._registry",
    "units": "lossary._registry",
}
_MODULES = (
    "adversarial",
    "arena",
    "calibration",
    "catalogue",
    "claims",
    "data",
    "distributed",
    "experiments",
    "functional",
    "losses",
    "metrics",
    "nn",
    "optim",
    "testing",
    "weighting",
)

__all__ = [
    "IdentityObjective",
    "LossaryError",
    "Objective",
    "SigmoidObjective",
    "SoftmaxObjective",
    "Spec",
    "UnitSpec",
    "adversarial",
    "arena",
    "calibration",
    "catalogue",
    "check_values",
    "claims",
    "compare",
    "create",
    "data",
    "distributed",
    "experiments",
    "formula",
    "functional",
    "list_objectives",
    "list_units",
    "losses",
    "metrics",
    "nn",
    "objective",
    "optim",
    "specs",
    "testing",
    "unit",
    "units",
    "weighting",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"lossary.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'lossary' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, "__version__"})
