"""Dual focal loss against cross-entropy and focal loss: calibration on clean and on noisy inputs."""

from lossary.claims import Claim, Few, InputNoise, Real, Training, lower, pixels

DIGITS = Real("digits", (pixels,))
ARMS = {"dual_focal": "dual_focal(gamma=3.0)", "focal": "focal(gamma=3.0)", "cross_entropy": "cross_entropy"}

CLAIM = Claim(
    paper="dual_focal",
    statement="Pushing the true class away from the runner-up gives better calibrated probabilities than cross-entropy, which is"
    " over-confident, and than focal loss, which is under-confident.",
    experiments=(
        Training(
            title="200 images, tested on noisy inputs",
            data=DIGITS,
            arms=ARMS,
            rules=(
                lower("smooth_calibration_error", "dual_focal", than="cross_entropy"),
                lower("smooth_calibration_error", "dual_focal", than="focal"),
            ),
            train=(Few(200),),
            test=(InputNoise(0.8),),
            epochs=300,
            batch_size=50,
        ),
        Training(
            title="200 images, tested on clean inputs",
            data=DIGITS,
            arms=ARMS,
            rules=(lower("smooth_calibration_error", "dual_focal", than="focal"),),
            train=(Few(200),),
            epochs=300,
            batch_size=50,
        ),
    ),
    seconds=90,
    note="Every loss has the same exponent, 3; the paper tunes it on validation data.",
)
