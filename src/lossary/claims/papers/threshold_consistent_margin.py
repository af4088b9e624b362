"""The threshold-consistent margin on top of a softmax on the sphere: one threshold for classes that were not there in training."""

import lossary
from lossary.claims import TEST_SHARE, Claim, Computation, higher, lower
from lossary.claims.papers._unseen import DISTINCT, OLD, SEEDS, TRAINED, WIDTH, Objective, unseen
from lossary.metrics import opis, recall_at_k


def base() -> Objective:
    return lossary.create("normalized_softmax", num_classes=OLD, embedding_dim=WIDTH)


def consistency(seed: int) -> dict[str, dict[str, float]]:
    found = unseen(seed, {"base": base, "with_margin": lambda: lossary.create("threshold_consistent_margin", base=base())})
    return {name: {"opis": 1e3 * float(opis(*each)), "recall_at_1": float(recall_at_k(*each))} for name, each in found.items()}


CLAIM = Claim(
    paper="threshold_consistent_margin",
    statement="Two margins of the cosine, added to a loss of metric learning, make one threshold work more alike for all classes,"
    " without a loss of recall.",
    experiments=(
        Computation(
            title="digits 5 to 9 after 0 to 4",
            function=consistency,
            rules=(
                lower("opis", "with_margin", than="base"),
                higher("recall_at_1", "with_margin", than="base", by=-0.02),
            ),
            seeds=SEEDS,
            description=f"{TRAINED} the loss is a softmax on the sphere, alone or with both margins at weight 1. Of the test images"
            " of 5 to 9: a thousand times OPIS, and recall at 1, which may fall by 0.02.",
            shared=TEST_SHARE,
            resolution=DISTINCT,
        ),
    ),
    seconds=15,
    note="The paper's data are photographs of birds, cars and other things with large networks.",
)
