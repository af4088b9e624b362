"""Knowledge distillation with and without the term for the norm and the direction of features."""

import torch
from torch import Tensor

from lossary.claims import TEST_SHARE, Claim, Computation, fit, higher, mlp
from lossary.claims.papers._teacher import lesson
from lossary.functional import knowledge_distillation
from lossary.losses import NDLoss

SEEDS, WIDTH = 20, 64


def students(seed: int) -> dict[str, dict[str, float]]:
    given = lesson(seed, SEEDS, WIDTH, 20)
    norm_and_direction = NDLoss(num_classes=10, feature_dim=WIDTH)
    norm_and_direction.fit(given.features, given.target)
    means = torch.nn.functional.normalize(torch.as_tensor(norm_and_direction.class_means))
    measured = {}
    for name in ("kd_and_nd", "kd"):
        net = mlp(seed, 64, 12, WIDTH, 10)

        def loss(batch: Tensor, name: str = name, net: torch.nn.Sequential = net) -> Tensor:
            features = net[:-1](given.images[batch])
            distilled = knowledge_distillation(net[-1](features), given.logits[batch], given.target[batch])
            if name == "kd":
                return distilled
            term: Tensor = norm_and_direction(features, given.features[batch], given.target[batch])
            return distilled + term

        fit(net.parameters(), loss, len(given.target), epochs=20, batch_size=50, seed=seed)
        with torch.no_grad():
            features = net[:-1](given.tested)
            right = (net(given.tested).argmax(1) == given.truth).double().mean()
        measured[name] = {
            "accuracy": float(right),
            "norm_of_features": float(features.norm(dim=1).mean()),
            "cosine_with_class_mean": float(torch.nn.functional.cosine_similarity(features, means[given.truth]).mean()),
        }
    return measured


CLAIM = Claim(
    paper="nd",
    statement="With the term for norm and direction beside knowledge distillation, a student's features are longer and nearer to"
    " the direction of the teacher's class means on test images, and the student is more accurate.",
    experiments=(
        Computation(
            title="digits, a student with a bottleneck of 12",
            function=students,
            rules=(
                higher("cosine_with_class_mean", "kd_and_nd", than="kd"),
                higher("norm_of_features", "kd_and_nd", than="kd"),
                higher("accuracy", "kd_and_nd", than="kd"),
            ),
            seeds=SEEDS,
            description="A teacher of 64 hidden units; students with 12 and then 64, whose rectified features are compared with the"
            " teacher's. Knowledge distillation at temperature 4 with weights 0.1 and 0.9, norm and direction with weight 1. 20"
            " epochs in batches of 50 with Adam at 0.003.",
            shared=TEST_SHARE,
            resolution=1 / 360,
        ),
    ),
    seconds=50,
    note="The paper adds the term to several methods on CIFAR-100 and ImageNet, with weights tuned for each pair of networks.",
)
