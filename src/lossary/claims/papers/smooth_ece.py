"""SmoothECE where the binned calibration error jumps, and on predictions that are calibrated by construction."""

import numpy as np
import torch

from lossary.claims import Claim, Computation, binned_error, higher, lower
from lossary.metrics import smooth_ece

STEP, ROWS, BINS = 1e-3, 10_000, 10  # with ten bins there is an edge at one half


def errors(confidence: np.ndarray, correct: np.ndarray) -> dict[str, float]:
    smooth = float(smooth_ece(torch.from_numpy(confidence), torch.from_numpy(correct)))
    return {"smooth_error": smooth, "binned_error": binned_error(confidence, correct, BINS)}


def jump(seed: int) -> dict[str, dict[str, float]]:
    correct = np.repeat([0.0, 1.0], ROWS // 2)
    apart = errors(np.where(correct == 1, 0.5 + STEP, 0.5 - STEP), correct)
    together = errors(np.full(ROWS, 0.5 + STEP), correct)
    return {measure: {"change": abs(apart[measure] - together[measure])} for measure in apart}


def calibrated(seed: int) -> dict[str, dict[str, float]]:
    generator = np.random.default_rng(seed)
    confidence, drawn = generator.random(ROWS), generator.random((2, ROWS))
    true = errors(confidence, (drawn[0] < confidence).astype(np.float64))
    return {"calibrated": true, "miscalibrated": errors(confidence, (drawn[1] < confidence**2).astype(np.float64))}


CLAIM = Claim(
    paper="smooth_ece",
    statement="Kernel smoothing gives a calibration error that changes little when predictions change little, where the binned one"
    " jumps, and that tells calibrated predictions from others.",
    experiments=(
        Computation(
            title="predictions on both sides of one half",
            function=jump,
            rules=(
                lower("change", "smooth_error", than="binned_error", times=0.1),
                higher("change", "binned_error", than=200 * STEP),
            ),
            seeds=1,
            description="Half of 10,000 predictions are 0.499 and wrong, half 0.501 and right; then all are 0.501, so that none"
            " moved by more than 0.002. How much does the error change?",
        ),
        Computation(
            title="calibrated and other predictions",
            function=calibrated,
            rules=(lower("smooth_error", "calibrated", than=0.02), higher("smooth_error", "miscalibrated", than=0.1)),
            seeds=20,
            description="10,000 uniform confidences f whose outcomes are 1 with probability f (calibrated) or f squared (not).",
        ),
    ),
    seconds=10,
)
