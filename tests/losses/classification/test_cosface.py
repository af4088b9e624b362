"""What is true of CosFace alone; the conformance suite does the rest."""

import math
from itertools import pairwise
from operator import mul

import torch

from lossary.losses.classification.cosface import CosFaceLoss, cosface
from lossary.losses.classification.normalized_softmax import normalized_softmax

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(7, 4, generator=GENERATOR, dtype=torch.float64)
W = torch.randn(3, 4, generator=GENERATOR, dtype=torch.float64)
TARGET = torch.randint(3, (7,), generator=GENERATOR)


def test_matches_a_loop_over_cosines() -> None:
    expected = []
    for x, y in zip(X.tolist(), TARGET.tolist(), strict=True):
        cosines = [sum(map(mul, x, w)) / (math.hypot(*x) * math.hypot(*w)) for w in W.tolist()]
        powers = [math.exp(9.0 * (c - 0.35 * (k == y))) for k, c in enumerate(cosines)]
        expected.append(-math.log(powers[y] / sum(powers)))
    torch.testing.assert_close(cosface(X, TARGET, W, scale=9.0, reduction="none"), X.new_tensor(expected))


def test_the_loss_rises_with_the_margin() -> None:
    values = [cosface(X, TARGET, W, scale=9.0, margin=margin, reduction="none") for margin in (0.0, 0.1, 0.35, 1.0)]
    torch.testing.assert_close(values[0], normalized_softmax(X, TARGET, W, scale=9.0, reduction="none"))
    assert all((more > less).all() for less, more in pairwise(values))


def test_a_soft_target_costs_what_its_classes_cost() -> None:
    q = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    each = torch.stack([cosface(X, torch.full((7,), c), W, reduction="none") for c in range(3)], 1)
    torch.testing.assert_close(cosface(X, q.expand(7, 3), W, reduction="none"), each @ q)


def test_the_link_has_no_margin() -> None:
    loss = CosFaceLoss(num_classes=3, embedding_dim=4)
    with torch.no_grad():
        loss.weight.copy_(W)
    truth = loss.link(X)[torch.arange(7), TARGET]
    torch.testing.assert_close(-truth.log(), normalized_softmax(X, TARGET, W.float(), scale=64.0, reduction="none"))
