"""What is true of OITC alone; the conformance suite does the rest."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from lossary.losses.contrastive.give_oitc import give_oitc

GENERATOR = torch.Generator().manual_seed(0)
IMAGE, TEXT = (torch.randn(9, 4, generator=GENERATOR, dtype=torch.float64) for _ in range(2))
OBJECT = torch.tensor([4, 1, 1, 7, 4, 0, 1, 9, 4])


def one_direction(a: Tensor, b: Tensor, temperature: float) -> float:
    total = 0.0
    for i in range(len(a)):
        terms = []
        for j in range(len(b)):
            lengths = math.hypot(*a[i].tolist()) * math.hypot(*b[j].tolist())
            terms.append(math.exp(sum(x * y for x, y in zip(a[i].tolist(), b[j].tolist(), strict=True)) / lengths / temperature))
        positives = [j for j in range(len(b)) if OBJECT[j] == OBJECT[i]]
        total -= sum(math.log(terms[j] / sum(terms)) for j in positives) / len(positives)
    return total / len(a)


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_matches_a_loop(temperature: float) -> None:
    expected = (one_direction(IMAGE, TEXT, temperature) + one_direction(TEXT, IMAGE, temperature)) / 2
    assert give_oitc(IMAGE, TEXT, OBJECT, temperature=temperature).item() == pytest.approx(expected)
    assert give_oitc(IMAGE, TEXT, OBJECT, temperature=temperature, reduction="sum").item() == pytest.approx(9 * expected)


def test_of_distinct_objects_is_symmetric_cross_entropy_of_the_matches() -> None:
    match = torch.arange(9)
    c = normalize(IMAGE) @ normalize(TEXT).T / 0.1
    expected = (cross_entropy(c, match) + cross_entropy(c.T, match)) / 2
    torch.testing.assert_close(give_oitc(IMAGE, TEXT, OBJECT.new_tensor(range(100, 109)), temperature=0.1), expected)


def test_many_samples_match_the_matrix() -> None:
    generator = torch.Generator().manual_seed(1)
    v, t = (torch.randn(600, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    objects = torch.randint(40, (600,), generator=generator)
    v1, t1, v2, t2 = (x.clone().requires_grad_() for x in (v, t, v, t))
    loss = give_oitc(v1, t1, objects)
    q = (objects[:, None] == objects).double()
    q /= q.sum(1, keepdim=True)
    c = normalize(v2) @ normalize(t2).T / 0.07
    expected = (cross_entropy(c, q) + cross_entropy(c.T, q)) / 2
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, (v1, t1)), torch.autograd.grad(expected, (v2, t2)))


def test_nothing_is_zero_with_a_gradient() -> None:
    v, t = torch.zeros(0, 3, requires_grad=True), torch.zeros(0, 3, requires_grad=True)
    loss = give_oitc(v, t, torch.zeros(0).long())
    assert loss.item() == 0
    assert [g.shape for g in torch.autograd.grad(loss, (v, t))] == [(0, 3), (0, 3)]
