"""Logistic regression with large steps: it becomes the perceptron, and faster; normalized, faster still."""

import torch

from lossary.claims import Claim, Computation, Real, higher, lower, only, pixels, same
from lossary.experiments import crowded_data, large_step_logistic

STEP_SIZES, MOST = (1.0, 10.0, 1e2, 1e4, 1e6), 20_000
PAIR = Real("digits", (pixels, only(3, 8)))


def crowd(seed: int) -> dict[str, dict[str, float]]:
    steps = {
        (method, size, samples): large_step_logistic(*crowded_data(samples), method, size, MOST).steps or MOST
        for method in ("logistic", "normalized")
        for size in STEP_SIZES
        for samples in (1000, 10_000)
    }
    measured = {}
    for method in ("logistic", "normalized"):
        few, many = (min(steps[method, size, samples] for size in STEP_SIZES) for samples in (1000, 10_000))
        measured[method] = {"steps": few, "growth_of_steps": many / few}
    perceptron = large_step_logistic(*crowded_data(1000), "perceptron", max_steps=MOST).steps or MOST
    return {**measured, "logistic_at_1e6": {"steps": steps["logistic", 1e6, 1000]}, "perceptron": {"steps": perceptron}}


def digits(seed: int) -> dict[str, dict[str, float]]:
    images = torch.from_numpy(PAIR.data.images).flatten(1).double() / 16
    features, target = torch.cat([images, torch.ones(len(images), 1)], 1), torch.from_numpy(PAIR.data.target).double()
    measured = {}
    for size in (1.0, 100.0):
        course = large_step_logistic(features, target, "logistic", size, MOST)
        measured[f"step_size_{size:g}"] = {"steps": course.steps or MOST, "highest_loss": float(course.losses.max())}
    return measured


CLAIM = Claim(
    paper="normalized_logistic",
    statement="As its steps grow, gradient descent on the logistic loss becomes the batch perceptron, and separates the classes"
    " sooner although its loss is higher; dividing the step by the mean error weight takes away its dependence on the number of"
    " samples.",
    experiments=(
        Computation(
            title="one sample against a crowd",
            function=crowd,
            rules=(
                same("steps", "logistic_at_1e6", than="perceptron", within=1),
                lower("steps", "normalized", than="logistic", times=0.1),
                higher("growth_of_steps", "logistic", than=5.0),
                lower("growth_of_steps", "normalized", than=2.0),
            ),
            seeds=1,
            description="Full-batch steps from zero until all samples are right: 999 copies of (1, 0.1) and one (-0.5, 0.5), all"
            " of one class, with the best of the step sizes 1, 10, 100, 1e4 and 1e6; their growth is that to 9999 copies.",
        ),
        Computation(
            title="threes against eights",
            function=digits,
            rules=(
                lower("steps", "step_size_100", than="step_size_1"),
                higher("highest_loss", "step_size_100", than="step_size_1"),
            ),
            seeds=1,
            description="The same on the digits 3 and 8, pixels from 0 to 1 and a constant, by gradient descent on the logistic"
            " loss.",
        ),
    ),
    seconds=60,
    note="The bounds of the paper are about the worst case, which the crowd stands for; on other data a well chosen step size can"
    " do as well without normalization.",
)
