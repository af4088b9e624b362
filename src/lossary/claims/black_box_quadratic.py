"""Scores of samplers from their samples alone: the quadratic one from two draws, and cross-entropy from a random number of them."""

import numpy as np

from lossary.claims import Claim, Computation, higher, lower, same
from lossary.metrics import black_box_cross_entropy, black_box_quadratic

TARGET = np.array([0.2, 0.5, 0.3])
MODELS = {"true_model": TARGET, "sharper_model": np.array([0.05, 0.7, 0.25])}
DISTANCE = float(((MODELS["sharper_model"] - TARGET) ** 2).sum())
CROSS_ENTROPY = float(-(TARGET * np.log(MODELS["sharper_model"])).sum())
REPEATS, RATE = 5000, 8


def ranking(seed: int) -> dict[str, dict[str, float]]:
    generator = np.random.default_rng(seed)
    measured = {}
    for name, model in MODELS.items():
        drawn, wanted = (generator.choice(3, (REPEATS, 2), p=p) for p in (model, TARGET))
        shares = [(samples[:, :, None] == np.arange(3)).mean(1) for samples in (drawn, wanted)]
        each = [
            float(black_box_quadratic(x, y, include_target_term=True)) for x, y in zip(drawn.tolist(), wanted.tolist(), strict=True)
        ]
        measured[name] = {
            "plug_in_distance": float(((shares[0] - shares[1]) ** 2).sum(1).mean()),
            "unbiased_distance": float(np.mean(each)),
        }
    return measured


def cross_entropy(seed: int) -> dict[str, dict[str, float]]:
    generator = np.random.default_rng(seed)
    wanted = generator.choice(3, (REPEATS, 1), p=TARGET).tolist()
    counts = {"poisson_draws": generator.poisson(RATE, REPEATS), "fixed_draws": np.full(REPEATS, RATE)}
    measured = {}
    for name, sizes in counts.items():
        drawn = [generator.choice(3, size, p=MODELS["sharper_model"]).tolist() for size in sizes]
        each = [float(black_box_cross_entropy(x, y, rate=float(RATE))) for x, y in zip(drawn, wanted, strict=True)]
        measured[name] = {"cross_entropy": float(np.mean(each))}
    return measured


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
            seeds=20,
            description="The squared distance of a model to the target (0.2, 0.5, 0.3), estimated 5000 times from two draws of"
            " each; the sharper model is (0.05, 0.7, 0.25).",
        ),
        Computation(
            title="eight draws, or eight on average",
            function=cross_entropy,
            rules=(
                same("cross_entropy", "poisson_draws", than=CROSS_ENTROPY, within=0.05),
                lower("cross_entropy", "fixed_draws", than=CROSS_ENTROPY, by=0.1),
            ),
            seeds=20,
            description="The cross-entropy of the sharper model, the mean of 5000 estimates by the same formula from a Poisson"
            " number of draws and from a fixed one.",
        ),
    ),
    seconds=60,
    note="That no estimator at all can do with a fixed number is proved in the paper; a measurement can only show that this one"
    " does not.",
)
