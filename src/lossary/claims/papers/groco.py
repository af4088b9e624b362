"""Group ordering against NT-Xent, by the neighbours that features have."""

import torch
from torch import Tensor, nn

from lossary import create
from lossary.claims import TEST_SHARE, Claim, Computation, Real, fit, higher, mlp, pixels, split_of
from lossary.claims.papers._two_views import neighbour_accuracy, view

DIGITS, SEEDS, EPOCHS, BATCH, NOISE = Real("digits", (pixels,)), 20, 25, 128, 0.5


def accuracies(seed: int) -> dict[str, dict[str, float]]:
    split = split_of(DIGITS, seed, SEEDS)
    x = split.train.features

    def trained(objective: nn.Module, grouped: bool) -> dict[str, float]:
        torch.manual_seed(seed)
        encoder, projector = mlp(seed, 64, 128, 64), mlp(seed + 1000, 64, 64, 32)

        def loss(batch: Tensor) -> Tensor:
            one, other = (projector(encoder(view(x[batch], NOISE))) for _ in range(2))
            given = (torch.cat([one, other]), torch.arange(BATCH).repeat(2)) if grouped else (one, other)
            value: Tensor = objective(*given)
            return value

        fit([*encoder.parameters(), *projector.parameters()], loss, len(x), epochs=EPOCHS, batch_size=BATCH, seed=seed)
        with torch.no_grad():
            known, asked = encoder(x), encoder(split.test.features)
        return {"accuracy": neighbour_accuracy(known, split.train.target, asked, split.test.target)}

    return {"nt_xent": trained(create("nt_xent", temperature=0.2), True), "groco": trained(create("groco"), False)}


CLAIM = Claim(
    paper="groco",
    statement="Features that were learned by putting positives behind negatives in a sorting network have better neighbours than"
    " those of a softmax contrast.",
    experiments=(
        Computation(
            title="digits without labels",
            function=accuracies,
            rules=(higher("accuracy", "groco", than="nt_xent"),),
            seeds=SEEDS,
            description="Digits, views moved by up to a pixel with noise of deviation 0.5; a hidden layer of 128, 64 features and a"
            " projection to 32; 25 epochs in batches of 128, Adam at 0.003; ten negatives and a steepness of 1 for GroCo, a"
            " temperature of 0.2 for NT-Xent. Accuracy of the five nearest training images' vote, by the cosine of features.",
            shared=TEST_SHARE,
        ),
    ),
    seconds=75,
    note="The paper trains ResNets on ImageNet, with up to eight crops of an image.",
)
