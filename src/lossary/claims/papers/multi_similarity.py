"""Multi-similarity against losses of pairs and triplets on classes that were not there in training."""

import lossary
from lossary.claims import TEST_SHARE, Claim, Computation, higher
from lossary.claims.papers._unseen import DISTINCT, SEEDS, TRAINED, unseen
from lossary.losses.embedding.multi_similarity import MultiSimilarityLoss
from lossary.metrics import mean_average_precision_at_r, recall_at_k


def retrieval(seed: int) -> dict[str, dict[str, float]]:
    found = unseen(
        seed,
        {
            "multi_similarity": MultiSimilarityLoss.official,
            "paper_parameters": lambda: lossary.create("multi_similarity"),
            "contrastive": lambda: lossary.create("contrastive"),
            "triplet": lambda: lossary.create("triplet"),
        },
    )
    return {
        name: {"recall_at_1": float(recall_at_k(*each)), "map_at_r": float(mean_average_precision_at_r(*each))}
        for name, each in found.items()
    }


CLAIM = Claim(
    paper="multi_similarity",
    statement="Mining informative pairs and weighting each against the anchor's others retrieves unseen classes better than"
    " contrastive and triplet losses do.",
    experiments=(
        Computation(
            title="digits 5 to 9 after 0 to 4",
            function=retrieval,
            rules=(
                higher("recall_at_1", "multi_similarity", than="contrastive"),
                higher("recall_at_1", "multi_similarity", than="triplet"),
            ),
            seeds=SEEDS,
            description=f"{TRAINED} then test images of 5 to 9 retrieve each other. The parameters are those of the authors'"
            " program; those of the paper are measured beside them.",
            shared=TEST_SHARE,
            resolution=DISTINCT,
        ),
    ),
    seconds=25,
    note="The paper's data are photographs of birds, cars and clothes with a pre-trained network, where recall is far from 1.",
)
