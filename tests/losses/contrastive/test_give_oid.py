"""What is true of OID alone; the conformance suite does the rest."""

import itertools
import math

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, normalize

from lossary.losses import GiveOIDLoss
from lossary.losses.contrastive.give_oid import give_oid

GENERATOR = torch.Generator().manual_seed(0)
IMAGE = torch.randn(9, 4, generator=GENERATOR, dtype=torch.float64)
OBJECT = torch.tensor([4, 1, 1, 7, 4, 0, 1, 9, 4])


@pytest.mark.parametrize(("scale", "bias"), [(10.0, 0.0), (3.0, -1.0)])
def test_matches_a_loop_over_unordered_pairs(scale: float, bias: float) -> None:
    found = []
    for i, j in itertools.combinations(range(9), 2):
        a, b = IMAGE[i].tolist(), IMAGE[j].tolist()
        u = scale * sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b)) + bias
        p = 1 / (1 + math.exp(-u))
        found.append(-math.log(p if OBJECT[i] == OBJECT[j] else 1 - p))
    loss = GiveOIDLoss(init_scale=scale, init_bias=bias)
    assert loss(IMAGE, OBJECT).item() == pytest.approx(sum(found) / 36)
    assert GiveOIDLoss(init_scale=scale, init_bias=bias, reduction="sum")(IMAGE, OBJECT).item() == pytest.approx(sum(found) / 4)


def test_starts_from_10_and_0_and_learns_both() -> None:
    loss = GiveOIDLoss()
    assert (loss.scale.item(), loss.bias.item()) == (10.0, 0.0)
    assert loss.hyperparameters()["init_scale"] == 10.0
    loss(IMAGE, OBJECT).backward()
    assert all(p.grad is not None and p.grad.abs() > 0 for p in loss.parameters())


def test_is_never_below_0_and_0_where_it_is_sure_and_right() -> None:
    image = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    value = give_oid(image, torch.tensor([0, 0, 1]), torch.tensor(1e4), torch.tensor(0.0))
    assert value.item() == 0.0
    worst = give_oid(image, torch.tensor([0, 1, 0]), torch.tensor(1e4), torch.tensor(0.0))
    assert worst.item() == pytest.approx(2e4 / 3)


def test_one_image_has_no_pair() -> None:
    for n in (0, 1):
        image = IMAGE[:n].clone().requires_grad_()
        loss = give_oid(image, torch.arange(n), torch.tensor(10.0), torch.tensor(0.0))
        assert loss.item() == 0
        assert torch.equal(torch.autograd.grad(loss, image)[0], torch.zeros_like(image))


def test_many_samples_match_the_matrix() -> None:
    generator = torch.Generator().manual_seed(1)
    v = torch.randn(600, 5, generator=generator, dtype=torch.float64)
    objects = torch.randint(40, (600,), generator=generator)
    one, two = v.clone().requires_grad_(), v.clone().requires_grad_()
    scalars = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (10.0, -2.0, 10.0, -2.0)]
    loss = give_oid(one, objects, scalars[0], scalars[1])
    i, j = torch.triu_indices(600, 600, offset=1)
    u = scalars[2] * (normalize(two) @ normalize(two).T)[i, j] + scalars[3]
    expected = binary_cross_entropy_with_logits(u, (objects[i] == objects[j]).double())
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, (one, *scalars[:2])), torch.autograd.grad(expected, (two, *scalars[2:])))
