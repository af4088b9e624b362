"""A longer memory for the teacher's gradient, against SGD with the weights that it amounts to in the long run."""

from lossary.claims import TEST_SHARE, Claim, Computation, lower
from lossary.claims.papers.dot import DESCRIPTION, SEEDS, student


def reweighted(seed: int) -> dict[str, dict[str, float]]:
    return {how: student(seed, how) for how in ("dot", "reweighted")}


CLAIM = Claim(
    paper="dot",
    statement="What two momenta gain is more than another weighting of the two losses: both end lower than by SGD with the weights"
    " that a steady gradient has under them in the long run.",
    experiments=(
        Computation(
            title="digits, a student of 6 units",
            function=reweighted,
            rules=(
                lower("teacher_loss", "dot", than="reweighted"),
                lower("label_loss", "dot", than="reweighted"),
            ),
            seeds=SEEDS,
            description=f"{DESCRIPTION} SGD has its weights multiplied by 0.57 and 4.",
            shared=TEST_SHARE,
        ),
    ),
    seconds=25,
    note="The paper does not make this comparison; it says that the trainer eases a conflict that weights cannot.",
)
