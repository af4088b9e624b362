"""What the temperature of a softmax contrast trades: uniformity, tolerance, and what comes of it."""

import torch
from torch import Tensor, nn

from lossary import create
from lossary.claims import TEST_SHARE, Claim, Computation, Real, fit, higher, lower, mlp, pixels, split_of
from lossary.claims.papers._two_views import neighbour_accuracy
from lossary.metrics import hardness_weights, tolerance, uniformity

SEEDS = 6
DIGITS = Real("digits", (pixels,))
ARMS: dict[str, tuple[str, dict[str, float]]] = {
    "0.05": ("info_nce", {"temperature": 0.05}),
    "0.2": ("info_nce", {"temperature": 0.2}),
    "1.0": ("info_nce", {"temperature": 1.0}),
    "1.0, hardest": ("hard_contrastive", {"temperature": 1.0}),
}


def view(rows: Tensor, noise: torch.Generator) -> Tensor:
    kept = torch.rand(rows.shape, generator=noise) < 0.7
    return rows * kept + 0.5 * torch.randn(rows.shape, generator=noise)


def trained(seed: int) -> dict[str, dict[str, float]]:
    split = split_of(DIGITS, seed, SEEDS)
    x, test = split.train.features, split.test.features
    truth = torch.as_tensor(split.test.truth).long()
    found = {}
    for arm, (name, parameters) in ARMS.items():
        loss: nn.Module = create(name, kind="objective", **parameters)
        model = nn.Sequential(mlp(seed, 64, 128, 32), nn.BatchNorm1d(32, affine=False))
        noise = torch.Generator().manual_seed(seed)

        def value(rows: Tensor, model: nn.Module = model, loss: nn.Module = loss, noise: torch.Generator = noise) -> Tensor:
            return loss(model(view(x[rows], noise)), model(view(x[rows], noise)))  # type: ignore[no-any-return]

        fit(model.parameters(), value, len(x), epochs=40, batch_size=128, seed=seed)
        model.eval()
        with torch.no_grad():
            bank, queries = model(x), model(test)
        found[arm] = {
            "uniformity": -float(uniformity(queries)),
            "tolerance": float(tolerance(queries, truth)),
            "accuracy": neighbour_accuracy(bank, split.train.target, queries, truth),
        }
    return found


def shares(seed: int) -> dict[str, dict[str, float]]:
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, 256, 16, generator=generator).unbind()
    found = {}
    for arm, (_, parameters) in ARMS.items():
        if "hardest" not in arm:
            most = hardness_weights(a, b, parameters["temperature"]).topk(13).values.sum(1)  # of 255, a twentieth
            found[arm] = {"share_of_the_nearest": float(most.mean())}
    return found


CLAIM = Claim(
    paper="hard_contrastive",
    statement="A small temperature pushes away the nearest negatives above all, so that embeddings are spread more evenly and"
    " those of one class are less alike; a temperature between serves best; taking only the hardest negatives makes embeddings of a"
    " large temperature uniform as well.",
    experiments=(
        Computation(
            title="who is pushed",
            function=shares,
            rules=(
                higher("share_of_the_nearest", "0.05", than="0.2", by=0.1),
                higher("share_of_the_nearest", "0.2", than="1.0", by=0.1),
            ),
            seeds=20,
            description="Random rows and items of width 16: the share of a row's push that the nearest twentieth of 255 negatives"
            " gets.",
        ),
        Computation(
            title="two views of digits",
            function=trained,
            rules=(
                higher("uniformity", "0.05", than="0.2"),
                higher("uniformity", "0.2", than="1.0"),
                lower("tolerance", "0.05", than="0.2"),
                lower("tolerance", "0.2", than="1.0"),
                higher("uniformity", "1.0, hardest", than="1.0"),
                higher("accuracy", "0.2", than="0.05"),
                higher("accuracy", "0.2", than="1.0"),
            ),
            seeds=SEEDS,
            shared=TEST_SHARE,
            description="Views lose 30 % of their pixels and get noise; a hidden layer of 128 and 32 outputs, normalised over the"
            " batch without weights; 40 epochs in batches of 128, Adam at 0.003. Uniformity is minus the metric of its name;"
            " accuracy is that of the five nearest training embeddings.",
        ),
    ),
    seconds=40,
    note="The paper trains ResNets on CIFAR, SVHN and ImageNet-100, and looks at the embeddings of the training set.",
)
