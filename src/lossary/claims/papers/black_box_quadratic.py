"""Scores of samplers from their samples alone: the quadratic one from two draws, and cross-entropy from a random number of them."""

import itertools

import numpy as np
from scipy import stats

from lossary.claims import Claim, Computation, higher, lower, same
from lossary.metrics import black_box_cross_entropy, black_box_quadratic

TARGET = np.array([0.2, 0.5, 0.3])
MODELS = {"true_model": TARGET, "sharper_model": np.array([0.05, 0.7, 0.25])}
DISTANCE = float(((MODELS["sharper_model"] - TARGET) ** 2).sum())
CROSS_ENTROPY = float(-(TARGET * np.log(MODELS["sharper_model"])).sum())
RATE, MOST = 8, 200  # of draws; what larger numbers add to the sum is below 1e-5


def ranking(seed: int) -> dict[str, dict[str, float]]:
    measured = {}
    for name, model in MODELS.items():
        found = np.zeros(2)
        for draws in itertools.product(range(3), repeat=4):  # two of the model and two of the target
            drawn, wanted = draws[:2], draws[2:]
            shares = [np.bincount(samples, minlength=3) / 2 for samples in (drawn, wanted)]
            unbiased = float(black_box_quadratic(drawn, wanted, include_target_term=True))
            chance = model[list(drawn)].prod() * TARGET[list(wanted)].prod()
            found += chance * np.array([((shares[0] - shares[1]) ** 2).sum(), unbiased])
        measured[name] = {"plug_in_distance": found[0], "unbiased_distance": found[1]}
    return measured


def cross_entropy(seed: int) -> dict[str, dict[str, float]]:
    """The estimate depends only on how many draws differ from the one of the target."""
    estimates = [float(black_box_cross_entropy([0] * different, [1], rate=float(RATE))) for different in range(MOST + 1)]
    different = 1 - MODELS["sharper_model"]
    counts = {"poisson_draws": stats.poisson(RATE * different[:, None]), "fixed_draws": stats.binom(RATE, different[:, None])}
    return {name: {"cross_entropy": float(TARGET @ (count.pmf(np.arange(MOST + 1)) @ estimates))} for name, count in counts.items()}


CLAIM = Claim(
    paper="black_box_quadratic",
    statement="From samples of a model and of its target alone, a quadratic loss can be estimated such that the true distribution"
    " is best, which plugging in frequencies does not do; cross-entropy can be if the number of draws is random, and not if it is"
    " fixed.",
    experiments=(
        Computation(
            title="two draws of each",
            function=ranking,
            rules=(
                higher("plug_in_distance", "true_model", than="sharper_model"),
                lower("unbiased_distance", "true_model", than="sharper_model"),
                same("unbiased_distance", "true_model", than=0.0, within=0.01),
                same("unbiased_distance", "sharper_model", than=DISTANCE, within=0.01),
            ),
            seeds=1,
            description="The squared distance of a model to the target (0.2, 0.5, 0.3), estimated from two draws of each:"
            " expectations over all draws there can be. The sharper model is (0.05, 0.7, 0.25).",
        ),
        Computation(
            title="eight draws, or eight on average",
            function=cross_entropy,
            rules=(
                same("cross_entropy", "poisson_draws", than=CROSS_ENTROPY, within=0.05),
                lower("cross_entropy", "fixed_draws", than=CROSS_ENTROPY, by=0.1),
            ),
            seeds=1,
            description="The expectation of the estimate of the sharper model's cross-entropy, by the same formula from a Poisson"
            " number of draws and from a fixed one: sums over all numbers of draws that differ from the target.",
        ),
    ),
    seconds=10,
    note="That no estimator at all can do with a fixed number is proved in the paper; a measurement can only show that this one"
    " does not. Expectations are summed up because they cannot be simulated: the estimate from a Poisson number of draws has no"
    " finite variance.",
)
