"""BYOL against its two refinements, which take similar images of the batch as further positives."""

import torch
from torch import Tensor

from lossary import Objective, create
from lossary.claims import TEST_SHARE, Claim, Computation, Real, fit, higher, mlp, pixels, split_of
from lossary.claims.papers._two_views import neighbour_accuracy, view
from lossary.nn import EmaTarget

DIGITS, SEEDS, EPOCHS, BATCH, NOISE = Real("digits", (pixels,)), 20, 25, 128, 0.5
Numbers = dict[str, float]


def accuracies(seed: int) -> dict[str, Numbers]:
    split = split_of(DIGITS, seed, SEEDS)
    x = split.train.features

    def trained(objective: Objective) -> Numbers:
        torch.manual_seed(seed)
        online, predictor = mlp(seed, 64, 128, 64), mlp(seed + 1000, 64, 64, 64)
        target = EmaTarget(online, momentum=0.98)

        def loss(batch: Tensor) -> Tensor:
            target.update(online)
            one, other = view(x[batch], NOISE), view(x[batch], NOISE)
            first: Tensor = objective(predictor(online(one)), target(other))
            second: Tensor = objective(predictor(online(other)), target(one))
            return first + second

        fit([*online.parameters(), *predictor.parameters()], loss, len(x), epochs=EPOCHS, batch_size=BATCH, seed=seed)
        with torch.no_grad():
            known, asked = online(x), online(split.test.features)
        return {"accuracy": neighbour_accuracy(known, split.train.target, asked, split.test.target)}

    return {name: trained(create(name)) for name in ("byol", "cross_cosine_similarity", "cross_sigmoid_similarity")}


CLAIM = Claim(
    paper="cross_cosine_similarity",
    statement="BYOL learns better features if other images of the batch that already look alike count as positives too, more so"
    " where they are found by cosines than by their sigmoids.",
    experiments=(
        Computation(
            title="digits without labels",
            function=accuracies,
            rules=(
                higher("accuracy", "cross_cosine_similarity", than="byol"),
                higher("accuracy", "cross_sigmoid_similarity", than="byol"),
                higher("accuracy", "cross_cosine_similarity", than="cross_sigmoid_similarity"),
            ),
            seeds=SEEDS,
            description="Digits, views moved by up to a pixel with noise of deviation 0.5; a hidden layer of 128 and 64 features, a"
            " predictor, target momentum 0.98; 25 epochs in batches of 128, Adam at 0.003. Accuracy of the five nearest"
            " training images' vote, by the cosine of features.",
            shared=TEST_SHARE,
        ),
    ),
    seconds=60,
    note="The paper trains a ResNet on STL-10 and fits a linear classifier: 71.0 for BYOL, 76.9 by cosines, 72.9 by sigmoids.",
)
