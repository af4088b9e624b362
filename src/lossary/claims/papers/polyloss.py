"""PolyLoss with its one coefficient chosen by validation, against cross-entropy."""

from lossary.claims import Claim, Few, LabelNoise, Real, Training, higher, pixels

ARMS = {
    "polyloss": ("polyloss(epsilon=-1.0)", "cross_entropy", "polyloss(epsilon=1.0)"),
    "cross_entropy": "cross_entropy",
}
DIGITS = Real("digits", (pixels,))
BETTER = (higher("accuracy", "polyloss", than="cross_entropy"),)

CLAIM = Claim(
    paper="polyloss",
    statement="Changing the first coefficient of cross-entropy's expansion, one number that is tuned, gives higher accuracy.",
    experiments=(
        Training("200 clean images", DIGITS, ARMS, BETTER, train=(Few(200),), epochs=300, batch_size=50),
        Training("40% of the labels wrong", DIGITS, ARMS, BETTER, train=(LabelNoise(0.4),), epochs=40, batch_size=50),
    ),
    seconds=90,
    note="Validation chooses among the coefficients -1, 0 and 1 for each seed; 0 is cross-entropy itself, so the two can be equal.",
)
