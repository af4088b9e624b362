"""Dice over the whole batch against Dice averaged over samples, where one class is rare."""

import numpy as np
import torch

from lossary.claims import Claim, Positives, Real, Training, against_rest, higher, pixels
from lossary.metrics import simpson_bias


def bias(truth: np.ndarray, prediction: np.ndarray) -> float:
    logits = torch.from_numpy(prediction).double().clamp_min(1e-30).log()
    return float(simpson_bias(logits, torch.from_numpy(truth)))


CLAIM = Claim(
    paper="set_dice",
    statement="A score averaged over single samples is not the score of the whole data set, so that a model trained on"
    " sample-level Dice ends with a much lower F1 than one trained on set-level Dice.",
    experiments=(
        Training(
            title="30 eights among the rest",
            data=Real("digits", (pixels, against_rest(8))),
            arms=("set_dice", "sample_dice"),
            rules=(
                higher("f1_macro", "set_dice", than="sample_dice", by=0.05),
                higher("simpson_bias", "sample_dice", than="set_dice"),
            ),
            train=(Positives(30),),
            epochs=80,
            batch_size=125,
            learning_rates=(1e-3, 3e-3, 1e-2),
            measures={"simpson_bias": bias},
            select="f1_macro",
            hidden=32,
        ),
    ),
    seconds=40,
    note="The paper's tasks are texts; here images stand for them.",
)
