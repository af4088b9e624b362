"""Squentropy against cross-entropy, few samples and noisy labels, at cross-entropy's own learning rate."""

from lossary.claims import Claim, Few, LabelNoise, Real, Training, higher, lower, pixels, steadier

ARMS = ("squentropy", "cross_entropy")
DIGITS = Real("digits", (pixels,))

CLAIM = Claim(
    paper="squentropy",
    statement="With the learning rate of cross-entropy, squentropy classifies more accurately, is better calibrated and varies"
    " less from seed to seed.",
    experiments=(
        Training(
            title="200 clean images",
            data=DIGITS,
            arms=ARMS,
            rules=(
                higher("accuracy", "squentropy", than="cross_entropy"),
                lower("smooth_calibration_error", "squentropy", than="cross_entropy"),
                steadier("accuracy", "squentropy", than="cross_entropy"),
            ),
            train=(Few(200),),
            epochs=300,
            batch_size=50,
        ),
        Training(
            title="40% of the labels wrong",
            data=DIGITS,
            arms=ARMS,
            rules=(higher("accuracy", "squentropy", than="cross_entropy"),),
            train=(LabelNoise(0.4),),
            epochs=40,
            batch_size=50,
        ),
    ),
    seconds=60,
    note="The paper's other baseline, the rescaled square loss, is not among the objectives here.",
)
