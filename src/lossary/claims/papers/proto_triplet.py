"""Prototype triplets and neighbourhoods beside the prototypes' cross-entropy: few examples of classes not seen in training."""

import torch
from torch import Tensor

import lossary
from lossary.claims import TEST_SHARE, Claim, Computation, higher
from lossary.claims.papers._unseen import DISTINCT, SEEDS, TRAINED, Objective, unseen

EPISODES = 50  # of one example of each new digit


def squared_distances(x: Tensor, prototypes: Tensor) -> Tensor:
    return (x[:, None] - prototypes).square().sum(2)


def prototypes_of(x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    classes, of_sample = labels.unique(return_inverse=True)
    return torch.stack([x[of_sample == c].mean(0) for c in range(len(classes))]), of_sample


def averaged(*added: str) -> Objective:
    """The cross-entropy on squared distances to the prototypes of half of the batch, and others, over their number."""
    others = [lossary.create(name) for name in added]

    def loss(x: Tensor, labels: Tensor) -> Tensor:
        half = len(x) // 2
        prototypes, _ = prototypes_of(x[:half], labels[:half])
        asked = (labels[half:, None] == labels[:half].unique()).float()
        known = asked.any(1)
        distances = squared_distances(x[half:], prototypes)[known]
        values = [torch.nn.functional.cross_entropy(-distances, asked[known].argmax(1))]
        values += [other(x, labels) for other in others]
        return torch.stack(values).mean()

    return loss


def one_shot(seed: int) -> dict[str, dict[str, float]]:
    found = unseen(
        seed,
        {
            "prototypes": averaged,
            "with_proto_triplet": lambda: averaged("proto_triplet"),
            "with_icnn": lambda: averaged("icnn"),
        },
    )
    measured = {}
    for name, (x, labels) in found.items():
        generator, right = torch.Generator().manual_seed(seed), []
        for _ in range(EPISODES):
            order = torch.randperm(len(x), generator=generator)
            shown = torch.stack([order[labels[order] == c][0] for c in labels.unique()])
            told = squared_distances(x, x[shown]).argmin(1)
            asked = torch.ones(len(x), dtype=torch.bool).index_fill(0, shown, False)
            right.append(float((labels[shown][told] == labels)[asked].float().mean()))
        measured[name] = {"accuracy": sum(right) / EPISODES}
    return measured


CLAIM = Claim(
    paper="proto_triplet",
    statement="A triplet loss against class prototypes, and a loss of how classes share neighbourhoods, each added to the"
    " cross-entropy on distances to prototypes, tell unseen classes apart better from a single example.",
    experiments=(
        Computation(
            title="one example of each digit from 5 to 9 after 0 to 4",
            function=one_shot,
            rules=(
                higher("accuracy", "with_proto_triplet", than="prototypes"),
                higher("accuracy", "with_icnn", than="prototypes"),
            ),
            seeds=SEEDS,
            description=f"{TRAINED} half of each batch makes prototypes, the other half asks, and losses that are added are divided"
            " by their number. Then one image of each of 5 to 9 is shown, and the other test images told apart, in 50 episodes.",
            shared=TEST_SHARE,
            resolution=DISTINCT / EPISODES,
        ),
    ),
    seconds=20,
    note="The paper's data are photographs and medical images with convolutional networks, and episodes of five classes.",
)
