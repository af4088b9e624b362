"""Mixed embeddings in losses of pairs: retrieval of classes that were not there in training."""

import lossary
from lossary.claims import TEST_SHARE, Claim, Computation, higher
from lossary.claims.papers._unseen import DISTINCT, SEEDS, TRAINED, unseen
from lossary.metrics import recall_at_k


def retrieval(seed: int) -> dict[str, dict[str, float]]:
    found = unseen(
        seed,
        {
            "contrastive": lambda: lossary.create("metrix", mixed_weight=0.0),
            "mixed_contrastive": lambda: lossary.create("metrix"),
            "multi_similarity": lambda: lossary.create("metrix", base="multi_similarity", mixed_weight=0.0),
            "mixed_multi_similarity": lambda: lossary.create("metrix", base="multi_similarity"),
        },
    )
    return {name: {"recall_at_1": float(recall_at_k(*each))} for name, each in found.items()}


CLAIM = Claim(
    paper="metrix",
    statement="Adding mixtures of positives and negatives, as partly positive items, improves the retrieval of unseen classes with"
    " a contrastive and with a multi-similarity loss.",
    experiments=(
        Computation(
            title="digits 5 to 9 after 0 to 4",
            function=retrieval,
            rules=(
                higher("recall_at_1", "mixed_contrastive", than="contrastive"),
                higher("recall_at_1", "mixed_multi_similarity", than="multi_similarity"),
            ),
            seeds=SEEDS,
            description=f"{TRAINED} the loss has no mixtures, or those of positives with negatives at a weight of 0.4. Recall at 1"
            " among the test images of 5 to 9.",
            shared=TEST_SHARE,
            resolution=DISTINCT,
        ),
    ),
    seconds=40,
    note="Embeddings are mixed, not inputs or features inside of the network. The paper's data are photographs of birds, cars and"
    " clothes with a pre-trained network.",
)
