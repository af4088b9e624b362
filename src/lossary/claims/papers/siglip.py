"""Sigmoid against softmax contrast, with small batches and with large ones."""

import torch

from lossary import create
from lossary.claims import TEST_SHARE, Claim, Computation, fit, higher, mlp, same
from lossary.claims.papers._halves import halves, recall_at

SEEDS = 6


def trained(name: str, seed: int, batch_size: int, epochs: int) -> dict[str, float]:
    _, (left, right), (test_left, test_right) = halves(seed, SEEDS)
    a, b, loss = mlp(seed, 32, 128, 32), mlp(seed + 1000, 32, 128, 32), create(name)
    fit(
        [*a.parameters(), *b.parameters(), *loss.parameters()],
        lambda rows: loss(a(left[rows]), b(right[rows])),
        len(left),
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
    )
    with torch.no_grad():
        return {"recall_at_10": recall_at(10, a(test_left), b(test_right))}


def small(seed: int) -> dict[str, dict[str, float]]:
    return {name: trained(name, seed, 16, 10) for name in ("siglip", "clip")}


def large(seed: int) -> dict[str, dict[str, float]]:
    return {name: trained(name, seed, 256, 60) for name in ("siglip", "clip")}


CLAIM = Claim(
    paper="siglip",
    statement="Sigmoid contrast finds more of the right partners than softmax contrast where batches are small; where they are"
    " large both find as many.",
    experiments=(
        Computation(
            title="batches of 16",
            function=small,
            rules=(higher("recall_at_10", "siglip", than="clip"),),
            seeds=SEEDS,
            shared=TEST_SHARE,
            description="The left half of a digit has to find its right half among those of the test part; an encoder for each side"
            " with a hidden layer of 128 and 32 outputs, scale and bias learned, 10 epochs, Adam at 0.003.",
        ),
        Computation(
            title="batches of 256",
            function=large,
            rules=(same("recall_at_10", "siglip", than="clip", within=0.03),),
            seeds=SEEDS,
            shared=TEST_SHARE,
            description="The same with 60 epochs.",
        ),
    ),
    seconds=40,
    note="The paper's small batches are of some thousands, its large ones of 32,768 and more, with images and texts of the web.",
)
