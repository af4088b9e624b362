"""What is true of OIIC alone; the conformance suite does the rest."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from lossary.losses.contrastive.give_oiic import give_oiic

GENERATOR = torch.Generator().manual_seed(0)
IMAGE = torch.randn(9, 4, generator=GENERATOR, dtype=torch.float64)
OBJECT = torch.tensor([4, 1, 1, 7, 4, 0, 1, 9, 4])


def cosine(i: int, j: int) -> float:
    a, b = ([float(x) for x in IMAGE[k]] for k in (i, j))
    return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_matches_a_loop(temperature: float) -> None:
    found = []
    for i in range(9):
        others = [j for j in range(9) if j != i]
        positives = [j for j in others if OBJECT[j] == OBJECT[i]]
        if positives:
            total = sum(math.exp(cosine(i, j) / temperature) for j in others)
            found.append(-sum(math.log(math.exp(cosine(i, j) / temperature) / total) for j in positives) / len(positives))
    assert len(found) == 6
    loss = give_oiic(IMAGE, OBJECT, temperature=temperature)
    assert loss.item() == pytest.approx(sum(found) / 6)
    assert give_oiic(IMAGE, OBJECT, temperature=temperature, reduction="sum").item() == pytest.approx(9 * sum(found) / 6)


def test_distinct_objects_give_0_attached_to_the_graph() -> None:
    for n in (0, 1, 5):
        image = IMAGE[:n].clone().requires_grad_()
        loss = give_oiic(image, torch.arange(n))
        assert loss.item() == 0
        (gradient,) = torch.autograd.grad(loss, image)
        assert torch.equal(gradient, torch.zeros_like(image))


def test_duplicates_are_positives_and_only_the_image_itself_is_left_out() -> None:
    image = torch.stack([IMAGE[0], IMAGE[0], IMAGE[1]])
    loss = give_oiic(image, torch.tensor([0, 0, 1]), temperature=1.0)
    c = cosine(0, 1)
    assert loss.item() == pytest.approx(-math.log(math.e / (math.e + math.exp(c))))


def test_many_samples_match_the_matrix() -> None:
    generator = torch.Generator().manual_seed(1)
    v = torch.randn(600, 5, generator=generator, dtype=torch.float64)
    objects = torch.randint(300, (600,), generator=generator)  # many have no positive
    one, two = v.clone().requires_grad_(), v.clone().requires_grad_()
    loss = give_oiic(one, objects)
    q = (objects[:, None] == objects).double().fill_diagonal_(0)
    has = q.sum(1) > 0
    c = (normalize(two) @ normalize(two).T / 0.07).masked_fill(torch.eye(600, dtype=torch.bool), -1e9)
    expected = cross_entropy(c[has], q[has] / q[has].sum(1, keepdim=True))
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, one), torch.autograd.grad(expected, two))
