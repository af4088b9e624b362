"""How many samples naive Bayes and logistic regression need as the features become more: the paper's own simulation, smaller."""

import numpy as np
import torch

from lossary.claims import Claim, Computation, lower
from lossary.experiments import linear_evaluation

SIZES = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
TESTED, CLOSE, FEW, MANY = 1000, 0.01, 50, 200  # of each class; above the best error, which is 0; features


def samples_needed(seed: int, features: int) -> dict[str, float]:
    """By method, of each class. One half of the features has variance 1, the other one as much as there are features."""
    generator = np.random.default_rng([seed, features])
    deviation = np.repeat([features**0.5, 1.0], features // 2)
    target = np.repeat([0, 1], SIZES[-1] + TESTED)
    inputs = torch.from_numpy((2.0 * target - 1)[:, None] + deviation * generator.normal(size=(len(target), features)))
    labels, tested = torch.from_numpy(target), np.arange(len(target)) % (SIZES[-1] + TESTED) < TESTED
    found = linear_evaluation(
        inputs[~tested], labels[~tested], inputs[tested], labels[tested], sizes=SIZES, repeats=1, smoothing=1e-9, seed=seed
    )
    return {method: size or 2 * SIZES[-1] for method, size in found.samples_until(CLOSE).items()}


def growth(seed: int) -> dict[str, dict[str, float]]:
    few, many = samples_needed(seed, FEW), samples_needed(seed, MANY)
    return {method: {"samples": many[method], "growth_of_samples": many[method] / few[method]} for method in few}


CLAIM = Claim(
    paper="naive_bayes",
    statement="Naive Bayes comes near its best error with far fewer samples than logistic regression, and the number that it"
    " needs grows more slowly with the number of features.",
    experiments=(
        Computation(
            title="two Gaussians, 50 and 200 features",
            function=growth,
            rules=(
                lower("samples", "naive_bayes", than="logistic_regression", times=1 / 3),
                lower("growth_of_samples", "naive_bayes", than="logistic_regression"),
            ),
            seeds=10,
            description="Samples of each class until the test error is below 0.01, for means -1 and 1 in each of 200 features, of"
            " which one half has variance 1 and the other 200; their growth is that from 50 features. L2-regularized logistic"
            " regression, C = 1.",
        ),
    ),
    seconds=30,
    note="That naive Bayes wins with few labels on the features of pretrained networks, and logistic regression with many, is not"
    " measured: there is no such network here.",
)
