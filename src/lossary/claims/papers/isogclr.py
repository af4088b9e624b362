"""Temperatures of frequent and rare classes, and whether features of a long tail gain by them."""

import numpy as np
import torch
from torch import Tensor

from lossary import Objective, create
from lossary.claims import TEST_SHARE, Claim, Computation, LongTail, Real, fit, higher, mlp, pixels, split_of
from lossary.claims.papers._two_views import balanced_accuracy_of_means, view

DIGITS, SEEDS, EPOCHS, BATCH, NOISE = Real("digits", (pixels,)), 20, 60, 64, 0.5


def measured(seed: int) -> dict[str, dict[str, float]]:
    split = split_of(DIGITS, seed, SEEDS)
    train = LongTail(100, 5)(split.train, np.random.default_rng(seed), DIGITS.data.task)
    x = train.features

    def trained(objective: Objective) -> float:
        torch.manual_seed(seed)
        encoder, projector = mlp(seed, 64, 128, 64), mlp(seed + 1000, 64, 64, 32)

        def loss(batch: Tensor) -> Tensor:
            one, other = (projector(encoder(view(x[batch], NOISE))) for _ in range(2))
            value: Tensor = objective(one, other, index=batch)
            return value

        fit([*encoder.parameters(), *projector.parameters()], loss, len(x), epochs=EPOCHS, batch_size=BATCH, seed=seed)
        with torch.no_grad():
            known, asked = encoder(x), encoder(split.test.features)
        return balanced_accuracy_of_means(known, train.target, asked, split.test.target)

    own = create("isogclr", num_samples=len(x), init_temperature=0.3, temperature_lr=0.01)
    fixed = create("isogclr", num_samples=len(x), init_temperature=0.3, temperature_lr=0.0)
    found = {"isogclr": {"balanced_accuracy": trained(own)}, "fixed": {"balanced_accuracy": trained(fixed)}}
    temperatures = own.get_buffer("temperature")
    size = torch.bincount(train.target)[train.target]
    for name, chosen in (("frequent", size >= size.unique()[-3]), ("rare", size <= size.unique()[2])):
        found[name] = {"temperature": float(temperatures[chosen].mean())}
    return found


CLAIM = Claim(
    paper="isogclr",
    statement="If each sample learns its own temperature, samples of frequent classes get higher ones than those of rare classes,"
    " and features of imbalanced data become better.",
    experiments=(
        Computation(
            title="digits with a long tail, without labels",
            function=measured,
            rules=(
                higher("temperature", "frequent", than="rare"),
                higher("balanced_accuracy", "isogclr", than="fixed"),
            ),
            seeds=SEEDS,
            description="Digits, from 100 images of the most frequent class to 5 of the rarest; views moved by up to a pixel with"
            " noise of deviation 0.5; a hidden layer of 128, 64 features and a projection to 32; 60 epochs in batches of 64, Adam"
            " at 0.003. Temperatures start from 0.3 and move by 0.01, or stay. Frequent and rare are the three largest and smallest"
            " sizes of classes; accuracy is that of the nearest class mean, averaged over classes.",
            shared=TEST_SHARE,
        ),
    ),
    seconds=60,
    note="The paper trains ResNets on long-tailed CIFAR and ImageNet, and image-text models.",
)
