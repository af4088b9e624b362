"""Every objective as a pure function: ``lossary.functional.focal(logits, target, gamma=2.0)``, resolved from the registry."""

import importlib
from collections.abc import Callable
from typing import Any

from lossary._core.names import suggestion
from lossary._core.registry import every_name, registered, specs

# Functions that belong to an objective without being its loss.
BESIDE = {
    "align_gradients": "lossary.losses.distillation.dual_head_kd",
    "black_box_cross_entropy": "lossary.metrics.black_box",
    "candidate_orders": "lossary.losses.sets.order_search",
    "mean_max_sim": "lossary.losses.contrastive.video_colbert",
    "mix_inputs": "lossary.losses.embedding.metrix",
    "naive_bayes_fit": "lossary.losses.classification.naive_bayes",
}


def __getattr__(name: str) -> Callable[..., Any]:
    if name.startswith("_"):  # what the import system and tools probe for
        raise AttributeError(name)
    if name in BESIDE:
        beside: Callable[..., Any] = getattr(importlib.import_module(BESIDE[name]), name)
        return beside
    found = registered(name)  # at every call of `functional.name`, where microseconds count
    if found is not None:
        return found.function
    known = specs()
    found = next((each for each in known.values() if name in each.aliases), None)
    if found is None:
        raise AttributeError(f"lossary.functional has no function {name!r}{suggestion(name, [*every_name(known), *BESIDE])}")
    return found.function


def __dir__() -> list[str]:
    return sorted([*specs(), *BESIDE])
