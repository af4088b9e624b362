"""Gradient descent, Adam and sign descent on classes of which few are frequent."""

from lossary.claims import Claim, Computation, higher, lower
from lossary.experiments import heavy_tailed_imbalance

# Each optimizer gets the best of its step sizes, which go beyond the best one on both sides.
STEP_SIZES = {
    "gradient_descent": (0.03, 0.1, 0.3, 1.0, 3.0),
    "adam": (0.003, 0.01, 0.03, 0.1),
    "sign": (0.0003, 0.001, 0.003),
}


def imbalance(seed: int) -> dict[str, dict[str, float]]:
    courses = heavy_tailed_imbalance(m=7, optimizers=list(STEP_SIZES), steps=100, seed=seed, learning_rates=STEP_SIZES)
    return {
        name: {
            "loss": float(course.total[-1]),
            "rare_loss": float(course.rare[-1]),
            "lag_of_rare": float(course.rare[-1] - course.frequent[-1]),
        }
        for name, course in courses.items()
    }


CLAIM = Claim(
    paper="heavy_tailed_imbalance",
    statement="Where most samples are of infrequent classes, gradient descent lowers the loss of those more slowly than that of"
    " the frequent ones; Adam and sign descent suffer less from it and end at a much lower loss.",
    experiments=(
        Computation(
            title="127 classes of 64 to 1 samples",
            function=imbalance,
            rules=(
                higher("lag_of_rare", "gradient_descent", than=0.0),
                lower("lag_of_rare", "adam", than="gradient_descent", times=0.5),
                lower("lag_of_rare", "sign", than="gradient_descent", times=0.5),
                lower("rare_loss", "adam", than="gradient_descent", times=0.5),
                lower("rare_loss", "sign", than="gradient_descent", times=0.5),
                lower("loss", "adam", than="gradient_descent", times=0.5),
                lower("loss", "sign", than="gradient_descent", times=0.5),
            ),
            seeds=5,
            description="Full-batch logistic regression on random inputs, 896 of them, 100 steps without momentum in gradient"
            " descent and sign descent, with the best of several step sizes for each. Rare are classes of at most 4 samples;"
            " their lag is their loss minus that of the others.",
        ),
    ),
    seconds=110,
    note="This is the paper's linear model, smaller; its language models are not run.",
)
