"""Projected gradient ascent: where the worst input is known, its bounds, and what it leaves untouched."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lossary.adversarial import pgd
from lossary.errors import InvalidTypeError, InvalidValueError


@pytest.mark.parametrize("random_start", [True, False])
def test_the_worst_input_of_a_linear_model_is_a_corner(random_start: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    weight, x = torch.randn(6, generator=generator), torch.randn(4, 6, generator=generator)
    found = pgd(lambda x: x @ weight, x, torch.sum, epsilon=0.3, step_size=0.1, steps=8, random_start=random_start)
    torch.testing.assert_close(found, x + 0.3 * weight.sign())


def test_the_worst_input_of_a_classifier_is_about_that_of_a_search_of_all_corners() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 3))
        x, target = torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1])
    corners = 0.2 * torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 4)

    def loss(x: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(model(x), target, reduction="none")

    best = torch.stack([loss(x + corner, target) for corner in corners]).amax(0)
    found = pgd(model, x, lambda z: cross_entropy(z, target), epsilon=0.2, step_size=0.05, steps=20)
    assert (loss(found, target) > 0.97 * best).all()
    assert ((found - x).abs() <= 0.2 + 1e-6).all()


def test_bounds_of_valid_inputs_hold() -> None:
    x = torch.tensor([[0.0, 0.5, 1.0]])
    found = pgd(lambda x: x, x, torch.sum, epsilon=0.25, step_size=0.1, steps=10, low=0.0, high=1.0)
    torch.testing.assert_close(found, torch.tensor([[0.25, 0.75, 1.0]]))
    down = pgd(lambda x: -x, x, torch.sum, epsilon=0.25, step_size=0.1, steps=10, low=0.0, high=1.0)
    torch.testing.assert_close(down, torch.tensor([[0.0, 0.25, 0.75]]))


def test_a_distance_to_the_start_grows_although_it_has_no_gradient_there() -> None:
    model = nn.Linear(3, 2)
    x = torch.zeros(6, 3)
    clean = model(x).detach()
    found = pgd(model, x, lambda z: (z - clean).norm(dim=1), epsilon=0.1, step_size=0.03, steps=10)
    start = pgd(model, x, lambda z: (z - clean).norm(dim=1), epsilon=0.1, step_size=0.03, steps=0)
    assert ((model(found) - clean).norm(dim=1) > (model(start) - clean).norm(dim=1)).all()


def test_nothing_else_is_touched() -> None:
    model = nn.Linear(2, 2)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    x, target = torch.zeros(3, 2, requires_grad=True), torch.tensor([0, 1, 0])
    before = torch.get_rng_state()
    with torch.no_grad():
        found = pgd(model, x, lambda z: cross_entropy(z, target))
        assert not torch.is_grad_enabled()
    assert not found.requires_grad
    assert x.grad is None
    assert torch.equal(x, torch.zeros(3, 2))
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in model.parameters() if p.grad is not None)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_start_is_the_generators() -> None:
    x = torch.zeros(50)
    starts = [pgd(lambda x: x, x, torch.sum, 0.5, steps=0, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])
    assert 0.4 < float(starts[0].abs().max()) <= 0.5
    assert torch.equal(pgd(lambda x: x, x, torch.sum, 0.5, steps=0, random_start=False), x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_dtype_is_that_of_the_input(dtype: torch.dtype) -> None:
    found = pgd(lambda x: 3 * x, torch.zeros(4, dtype=dtype), torch.sum, 0.5, 0.25, 4)
    assert found.dtype == dtype
    assert found.tolist() == [0.5] * 4


def test_mistakes_are_named() -> None:
    weight = torch.ones(2, requires_grad=True)
    with pytest.raises(InvalidTypeError, match=r"pgd: x must be floating point, got torch\.int64"):
        pgd(lambda x: x, torch.zeros(2, dtype=torch.int64), torch.sum)
    with pytest.raises(InvalidValueError, match="pgd: epsilon must be a finite number > 0, got -1"):
        pgd(lambda x: x, torch.zeros(2), torch.sum, -1)
    with pytest.raises(InvalidTypeError, match="pgd: objective must be differentiable in the model's input"):
        pgd(lambda x: x.detach(), torch.zeros(2), torch.sum)
    with pytest.raises(InvalidTypeError, match="pgd: objective must be differentiable in the model's input"):
        pgd(lambda x: weight * x.detach(), torch.zeros(2), torch.sum)  # in something else it is
    with pytest.raises(InvalidValueError, match=r"pgd: low must be at most high, which is 0\.0, got 1\.0"):
        pgd(lambda x: x, torch.zeros(2), torch.sum, low=1.0, high=0.0)
