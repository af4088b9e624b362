"""The tuning budget: the same number of trials for every objective, at the same points of the unit cube.

By default a trial is a learning rate of a short grid. With ``trials`` the rates and each objective's own declared
hyper-parameters are drawn together by one of Optuna's samplers, all of them before training, so that they can be written
down with the protocol and the trials of all seeds can be trained side by side.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Literal

from lossary._core.extras import require

SamplerName = Literal["qmc", "random"]
SAMPLERS: tuple[SamplerName, ...] = ("qmc", "random")
LEARNING_RATES = (3e-4, 1e-3, 3e-3, 1e-2)
SEED = 0  # of the sampler; the points are part of the protocol
Points = tuple[tuple[float, ...], ...]  # (trials, dimensions), each from 0 to 1


def draw(trials: int, dimensions: int, sampler: str) -> Points:
    """Points of the unit cube from an Optuna sampler, ordered by the first coordinate."""
    require("a comparison that tunes more than a grid of learning rates", "optuna")
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the quasi-Monte-Carlo sampler calls itself experimental
            samplers = {"qmc": optuna.samplers.QMCSampler, "random": optuna.samplers.RandomSampler}
            study = optuna.create_study(sampler=samplers[sampler](seed=SEED))
            unit = optuna.distributions.FloatDistribution(0.0, 1.0)
            space: dict[str, optuna.distributions.BaseDistribution] = {f"u{i}": unit for i in range(dimensions)}
            drawn = []
            for _ in range(trials):
                trial = study.ask(space)
                drawn.append(tuple(float(trial.params[f"u{i}"]) for i in range(dimensions)))
                study.tell(trial, 0.0)
    finally:
        optuna.logging.set_verbosity(level)
    return tuple(sorted(drawn))


def rates_of(points: Points, low: float, high: float) -> tuple[float, ...]:
    """Learning rates between two bounds, even in the logarithm."""
    return tuple(float(f"{math.exp(math.log(low) + point[0] * (math.log(high) - math.log(low))):.4g}") for point in points)


def parameters_of(points: Points, ranges: Mapping[str, tuple[float, float]], fixed: Sequence[str]) -> tuple[dict[str, float], ...]:
    """An objective's own hyper-parameters in each trial, but for those that the user has fixed."""
    free = [(name, bounds) for name, bounds in ranges.items() if name not in fixed]
    return tuple(
        {name: float(f"{low + u * (high - low):.4g}") for u, (name, (low, high)) in zip(point[1:], free, strict=False)}
        for point in points
    )
