"""NeuralNDCG against ApproxNDCG and LambdaLoss on generated lists, and how near it is to NDCG itself."""

import functools
from typing import Any

import torch
from torch import Tensor, nn

import lossary
from lossary.claims import Claim, Computation, fit, higher, lower, mlp
from lossary.metrics import ndcg_at_k

ITEMS, FEATURES, GRADES, K = 20, 10, 4, 5
Lists = tuple[Tensor, Tensor]
# Each arm has three settings of what says how sharply it sorts, and validation takes one of them.
SETTINGS: dict[str, tuple[dict[str, Any], ...]] = {
    "neural_ndcg": ({"temperature": 0.3}, {"temperature": 1.0}, {"temperature": 3.0}),
    "approx_ndcg": ({"alpha": 1.0}, {"alpha": 3.0}, {"alpha": 10.0}),
    "lambda_loss": ({"sigma": 0.3}, {"sigma": 1.0}, {"sigma": 3.0}),
}


def lists(count: int, world: nn.Module, generator: torch.Generator) -> Lists:
    """Features (lists, items, features) and grades from 0 to 4, rare at the top, of a noisy function of them."""
    features = torch.randn(count, ITEMS, FEATURES, generator=generator)
    with torch.no_grad():
        quality = world(features.flatten(0, 1)).view(count, ITEMS)
    quality = (quality - quality.mean()) / quality.std() + 0.5 * torch.randn(count, ITEMS, generator=generator)
    return features, torch.bucketize(quality, torch.tensor([0.3, 0.9, 1.4, 1.9])).clamp_max(GRADES).float()


def ndcg(model: nn.Module, data: Lists) -> float:
    return float(ndcg_at_k(scored(model, data[0]).detach(), data[1], K))


def scored(model: nn.Module, features: Tensor) -> Tensor:
    scores: Tensor = model(features.flatten(0, 1)).view(features.shape[:2])
    return scores


def trained(arm: str, setting: dict[str, Any], data: Lists, seed: int) -> nn.Module:
    model, loss = mlp(seed, FEATURES, 32, 1), lossary.create(arm, **setting)

    def of_batch(batch: Tensor) -> Tensor:
        value: Tensor = loss(scored(model, data[0][batch]), data[1][batch])
        return value

    adam = functools.partial(torch.optim.Adam, lr=5e-3)
    fit(model.parameters(), of_batch, len(data[0]), epochs=30, batch_size=20, seed=seed, optimizer=adam)
    return model


def ranking(seed: int) -> dict[str, dict[str, float]]:
    generator = torch.Generator().manual_seed(seed)
    truth = mlp(1000 + seed, FEATURES, 16, 1)
    train, validation, test = (lists(count, truth, generator) for count in (100, 100, 400))
    models = {arm: [trained(arm, setting, train, seed) for setting in settings] for arm, settings in SETTINGS.items()}
    best = {arm: max(each, key=lambda model: ndcg(model, validation)) for arm, each in models.items()}
    return {arm: {"ndcg_at_5": ndcg(model, test)} for arm, model in best.items()}


def distance(seed: int) -> dict[str, dict[str, float]]:
    generator = torch.Generator().manual_seed(seed)
    scores, grades = torch.randn(100, ITEMS, generator=generator), torch.randint(GRADES + 1, (100, ITEMS), generator=generator)
    exact = ndcg_at_k(scores, grades, reduction="none")
    arms = {"temperature_1": 1.0, "temperature_0.01": 0.01}
    losses = {
        arm: lossary.create("neural_ndcg", temperature=value, reduction="none")(scores, grades) for arm, value in arms.items()
    }
    return {arm: {"off_ndcg": float((loss + exact).abs().mean())} for arm, loss in losses.items()}


CLAIM = Claim(
    paper="neural_ndcg",
    statement="A relaxed sort gives an approximation of NDCG that is as exact as one likes; training on it ranks better than other"
    " ways to optimise NDCG directly, and as well as the best losses there are.",
    experiments=(
        Computation(
            title="generated lists of graded items",
            function=ranking,
            rules=(
                higher("ndcg_at_5", "neural_ndcg", than="approx_ndcg"),
                higher("ndcg_at_5", "neural_ndcg", than="lambda_loss", by=-0.005),
            ),
            seeds=10,
            description="100 lists of 20 items with ten features and grades from 0 to 4 that depend on them, with noise; a small"
            " network; of each loss three settings of its sharpness, of which 100 other lists take one. NDCG of the first 5 on 400"
            " others.",
        ),
        Computation(
            title="distance from NDCG",
            function=distance,
            rules=(lower("off_ndcg", "temperature_0.01", than="temperature_1", times=0.1),),
            seeds=20,
            description="The mean distance of minus the loss from NDCG on 100 lists of 20 random scores and grades.",
        ),
    ),
    seconds=70,
    note="The paper trains a large network on search engines' data of tens of thousands of queries.",
)
