"""Classes that were not there in training: the sphere's softmax against features of a plain softmax and of pairs."""

import torch
from torch import Tensor, nn

import lossary
from lossary.claims import TEST_SHARE, Claim, Computation, Real, fit, higher, mlp, pixels, split_of
from lossary.nn import NearestPrototype

DIGITS, SEEDS, OLD, SHOTS = Real("digits", (pixels,)), 10, 5, 5


def novel(seed: int) -> dict[str, dict[str, float]]:
    split = split_of(DIGITS, seed, SEEDS)
    images, target = split.train.features.flatten(1), split.train.target
    old = target < OLD
    shown = torch.cat([torch.nonzero(target == c).flatten()[:SHOTS] for c in range(OLD, 10)])
    tested, truth = split.test.features.flatten(1), torch.from_numpy(split.test.truth)
    new = truth >= OLD
    measured = {}
    for name in ("normalized_softmax", "softmax", "contrastive"):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            embed = mlp(seed, 64, 128, 32)
            head: nn.Module = nn.Linear(32, OLD) if name == "softmax" else nn.Identity()
            if name == "normalized_softmax":
                objective = lossary.create(name, num_classes=OLD, embedding_dim=32)
            else:
                objective = lossary.create("cross_entropy" if name == "softmax" else name)

        def loss(batch: Tensor, embed: nn.Module = embed, head: nn.Module = head, objective: nn.Module = objective) -> Tensor:
            value: Tensor = objective(head(embed(images[old][batch])), target[old][batch])
            return value

        parameters = [*embed.parameters(), *head.parameters(), *objective.parameters()]
        fit(parameters, loss, int(old.sum()), epochs=20, batch_size=50, seed=seed)
        classes = NearestPrototype()
        with torch.no_grad():
            classes.enroll(embed(images[shown]), target[shown])
            measured[name] = {"accuracy": float((classes.predict(embed(tested[new])) == truth[new]).double().mean())}
    return measured


CLAIM = Claim(
    paper="normalized_softmax",
    statement="An embedding trained by a softmax on the sphere tells classes that it has never seen apart, by the mean direction of"
    " a few examples, much better than the features of a plain softmax and than an embedding trained on pairs.",
    experiments=(
        Computation(
            title="digits 5 to 9 after 0 to 4",
            function=novel,
            rules=(
                higher("accuracy", "normalized_softmax", than="softmax", by=0.05),
                higher("accuracy", "normalized_softmax", than="contrastive", by=0.05),
            ),
            seeds=SEEDS,
            description="Networks of one hidden layer of 128 with an embedding of 32 are trained on digits 0 to 4, 20 epochs in"
            " batches of 50 with Adam at 0.003; then 5 images of each of 5 to 9 are enrolled, and test images of these told apart.",
            shared=TEST_SHARE,
            resolution=1 / 180,
        ),
    ),
    seconds=20,
    note="The paper's data are photographs of plants and other images with large networks, and its metric learning samples"
    " triplets.",
)
