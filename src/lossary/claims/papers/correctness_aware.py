"""Correctness-aware calibration against one temperature for all samples, on inputs like those seen before and on others."""

from functools import partial

import numpy as np
import torch
from torch import Tensor

from lossary import create
from lossary.claims import QUANTITIES, TEST_SHARE, Claim, Computation, Few, InputNoise, Real, fit, lower, mlp, pixels, split_of
from lossary.nn import SampleTemperature, top_probabilities

DIGITS, SEEDS = Real("digits", (pixels,)), 20
ADAM = partial(torch.optim.Adam, lr=0.01)  # for calibrators


def errors(seed: int) -> dict[str, dict[str, float]]:
    split, task, generator = split_of(DIGITS, seed, SEEDS), DIGITS.data.task, np.random.default_rng(seed)
    train, model = Few(100)(split.train, generator, task), mlp(seed, 64, 128, 10)
    cross_entropy, correctness = create("cross_entropy"), create("correctness_aware")

    def loss(batch: Tensor) -> Tensor:
        value: Tensor = cross_entropy(model(train.features[batch]), train.target[batch])
        return value

    fit(model.parameters(), loss, len(train.target), epochs=200, batch_size=50, seed=seed)
    parts = {"held_out": split.validation, "usual": split.test, "noisy": InputNoise(0.8)(split.test, generator, task)}
    with torch.no_grad():
        logits = {name: model(part.features) for name, part in parts.items()}
        views = {name: [model(f) for f in moved(part.features)] for name, part in parts.items()}
    alike = {name: torch.zeros(len(part.target), 1) for name, part in parts.items()}  # nothing to tell samples by: one temperature
    telling = {name: top_probabilities(of_part) for name, of_part in views.items()}

    def read(features: dict[str, Tensor], objective: torch.nn.Module, steps: int = 500) -> dict[str, float]:
        calibrator, target = SampleTemperature(features["held_out"].shape[1]), split.validation.target

        def cost(batch: Tensor) -> Tensor:
            value: Tensor = objective(calibrator(logits["held_out"][batch], features["held_out"][batch]), target[batch])
            return value

        fit(calibrator.parameters(), cost, len(target), epochs=steps, batch_size=len(target), seed=seed, optimizer=ADAM)
        ece, found = QUANTITIES["binned_calibration_error"], {}
        for name in ("usual", "noisy"):
            prediction = calibrator(logits[name], features[name]).softmax(1).detach().numpy()
            found[f"calibration_error_on_{name}_inputs"] = ece(parts[name].truth, prediction)
        return found

    return {
        "correctness_aware": read(telling, correctness),
        "one_temperature": read(alike, cross_entropy),
        "uncalibrated": read(alike, cross_entropy, steps=0),
    }


def moved(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Three changed copies: to the right, downwards, and with less contrast."""
    return images.roll(1, 3), images.roll(1, 2), 0.7 * images


CLAIM = Claim(
    paper="correctness_aware",
    statement="A calibrator that is told which predictions are right, and sees how they change with the image, leaves a smaller"
    " calibration error than no calibration and than one temperature for all, on usual and on noisy inputs.",
    experiments=(
        Computation(
            title="calibrated on usual inputs",
            function=errors,
            rules=tuple(
                lower(f"calibration_error_on_{inputs}_inputs", "correctness_aware", than=other)
                for inputs in ("usual", "noisy")
                for other in ("uncalibrated", "one_temperature")
            ),
            seeds=SEEDS,
            description="Digits; one hidden layer of 128 trained on 100 images; calibrators trained on the validation part by 500"
            " full steps of Adam at 0.01; views moved by a pixel and with less contrast; noise of deviation 0.8.",
            shared=TEST_SHARE,
        ),
    ),
    seconds=120,
    note="The paper calibrates on 50,000 photographs, here on 359 small images; its views are turned, grey and of other colours.",
)
