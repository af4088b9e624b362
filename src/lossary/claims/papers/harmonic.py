"""Harmonic loss against a softmax layer: what the weights look like, whether they settle, and accuracy from few images."""

import functools

import torch
from torch import Tensor, nn

import lossary
from lossary.claims import TEST_SHARE, Claim, Computation, Few, Real, Training, fit, higher, lower, pixels, same, split_of

DIGITS, SEEDS = Real("digits", (pixels,)), 10
EARLY, LATE = 100, 400  # epochs


def layers(seed: int) -> dict[str, dict[str, float]]:
    split = split_of(DIGITS, seed, SEEDS)
    images, target, tested = split.train.features.flatten(1), split.train.target, split.test.features.flatten(1)
    means = torch.stack([images[target == label].mean(0) for label in range(10)])

    def trained(name: str, epochs: int) -> tuple[Tensor, Tensor]:
        """The weights, and how likely each class is on the test part."""
        torch.manual_seed(seed)
        own = name == "harmonic"
        model = nn.Identity() if own else nn.Linear(64, 10)
        objective = lossary.create(name, num_classes=10, embedding_dim=64) if own else lossary.create(name)
        adam = functools.partial(torch.optim.Adam, lr=0.01)
        fit(
            [*model.parameters(), *objective.parameters()],
            lambda batch: objective(model(images[batch]), target[batch]),
            len(target),
            epochs=epochs,
            batch_size=200,
            seed=seed,
            optimizer=adam,
        )
        weight = (objective if own else model).get_parameter("weight")
        return weight.detach(), objective.link(model(tested)).detach()

    measured = {}
    for name in ("harmonic", "cross_entropy"):
        (early, _), (late, scores) = trained(name, EARLY), trained(name, LATE)
        alike = [float(torch.corrcoef(torch.stack(pair))[0, 1]) for pair in zip(late, means, strict=True)]
        measured[name] = {
            "likeness": sum(alike) / 10,
            "growth_of_weights": float(late.norm() / early.norm()),
            "accuracy": float((scores.argmax(1).numpy() == split.test.truth).mean()),
        }
    return measured


CLAIM = Claim(
    paper="harmonic",
    statement="With distances to class centres in the place of a softmax layer, weights look like the classes and settle at a"
    " finite point, at the same accuracy, and fewer data are needed to generalize.",
    experiments=(
        Computation(
            title="one layer on digits",
            function=layers,
            rules=(
                higher("likeness", "harmonic", than="cross_entropy"),
                higher("likeness", "harmonic", than=0.8),
                same("growth_of_weights", "harmonic", than=1.0, within=0.05),
                lower("growth_of_weights", "harmonic", than="cross_entropy"),
                higher("accuracy", "harmonic", than="cross_entropy", by=-0.01),
            ),
            seeds=SEEDS,
            description="The correlation of a class's weights with the mean image of the class, the factor by which the norm of"
            " all weights grows from epoch 100 to epoch 400, and accuracy. Batches of 200, Adam at 0.01.",
            shared=TEST_SHARE,
            resolution=1 / 360,
        ),
        Training(
            title="50 images, one layer",
            data=DIGITS,
            arms=("harmonic", "cross_entropy"),
            rules=(higher("accuracy", "harmonic", than="cross_entropy"),),
            train=(Few(50),),
            epochs=200,
            batch_size=50,
            learning_rates=(3e-3, 1e-2, 3e-2),
            model="linear",
        ),
    ),
    seconds=110,
    note="The paper's networks for algorithms, where it sees less data needed and no late generalization, and its language model"
    " are not run.",
)
