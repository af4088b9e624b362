"""DatasetEquity against equal weights, where a few of the images have another appearance than the rest."""

from collections.abc import Callable

import torch
from torch import Tensor

from lossary import create
from lossary.claims import TEST_SHARE, Claim, Computation, Real, fit, higher, mlp, pixels, split_of
from lossary.data import cluster_likelihood

DIGITS, SEEDS, RARE = Real("digits", (pixels,)), 20, 0.05


def accuracies(seed: int) -> dict[str, dict[str, float]]:
    split = split_of(DIGITS, seed, SEEDS)
    target, ends = split.train.target, split.train.features.min() + split.train.features.max()
    rare = torch.rand(len(target)).argsort() < RARE * len(target)
    features = torch.where(rare.view(-1, 1, 1, 1), ends - split.train.features, split.train.features)
    weighted = create("dataset_equity", likelihood=cluster_likelihood(features.flatten(1)))
    plain = create("cross_entropy")

    def trained(objective: Callable[[Tensor, Tensor, Tensor], Tensor]) -> dict[str, float]:
        model = mlp(seed, 64, 128, 10)
        of_batch = lambda batch: objective(model(features[batch]), target[batch], batch)  # noqa: E731
        fit(model.parameters(), of_batch, len(target), epochs=40, batch_size=50, seed=seed)
        parts = {"accuracy_on_rare_images": ends - split.test.features, "accuracy_on_common_images": split.test.features}
        return {name: (model(x).argmax(1) == split.test.target).double().mean().item() for name, x in parts.items()}

    return {
        "dataset_equity": trained(lambda logits, classes, index: weighted(logits, classes, index=index)),
        "cross_entropy": trained(lambda logits, classes, index: plain(logits, classes)),
    }


CLAIM = Claim(
    paper="dataset_equity",
    statement="Giving samples of a rare appearance, as clusters tell it, more weight makes the model better on them and hardly"
    " worse on the common ones.",
    experiments=(
        Computation(
            title="one of twenty images inverted",
            function=accuracies,
            rules=(
                higher("accuracy_on_rare_images", "dataset_equity", than="cross_entropy"),
                higher("accuracy_on_common_images", "dataset_equity", than="cross_entropy", by=-0.01),
            ),
            seeds=SEEDS,
            description="Digits, 5% of the training images with black and white exchanged; appearance is known by clusters of the"
            " pixels (DBSCAN); one hidden layer of 128, 40 epochs in batches of 50, Adam at 0.003; test images inverted and not.",
            shared=TEST_SHARE,
        ),
    ),
    seconds=100,
    note="The paper clusters deep features of street scenes and detects objects; its default weights, eta 1 and gamma 5, are kept.",
)
