"""What is true of the normalized softmax alone; the conformance suite does the rest."""

import math
from operator import mul

import pytest
import torch
from torch import Tensor

from lossary import LossaryError
from lossary.losses.classification.normalized_softmax import NormalizedSoftmaxLoss, normalized_softmax

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(7, 4, generator=GENERATOR, dtype=torch.float64)
W = torch.randn(3, 4, generator=GENERATOR, dtype=torch.float64)
TARGET = torch.randint(3, (7,), generator=GENERATOR)


def cosine(a: list[float], b: list[float]) -> float:
    return float(sum(map(mul, a, b))) / (math.hypot(*a) * math.hypot(*b))


def test_matches_a_loop_over_cosines() -> None:
    expected = []
    for x, y in zip(X.tolist(), TARGET.tolist(), strict=True):
        powers = [math.exp(7.0 * cosine(x, w)) for w in W.tolist()]
        expected.append(-math.log(powers[y] / sum(powers)))
    torch.testing.assert_close(normalized_softmax(X, TARGET, W, scale=7.0, reduction="none"), X.new_tensor(expected))


def test_lengths_do_not_count_and_gradients_are_across_the_embedding() -> None:
    x = X.clone().requires_grad_()
    value = normalized_softmax(x, TARGET, W)
    lengths = torch.rand(7, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 100
    torch.testing.assert_close(normalized_softmax(x * lengths, TARGET, W * 0.01), value)
    (gradient,) = torch.autograd.grad(value, x)
    torch.testing.assert_close((gradient * x).sum(1), torch.zeros(7, dtype=torch.float64))


@pytest.mark.parametrize("classes", [2, 5, 100])
def test_nothing_is_below_the_bound_and_a_simplex_reaches_it(classes: int) -> None:
    simplex = torch.eye(classes, dtype=torch.float64) - 1 / classes
    target = torch.arange(classes)
    bound = math.log(1 + (classes - 1) * math.exp(-4.0 * classes / (classes - 1)))
    assert normalized_softmax(simplex, target, simplex, scale=4.0).item() == pytest.approx(bound, rel=1e-9)
    for seed in range(5):
        nudge = 0.1 * torch.randn(simplex.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        assert normalized_softmax(simplex, target, simplex + nudge, scale=4.0) > bound


def test_many_classes_give_what_few_operations_give() -> None:
    """Large inputs take another way through the memory."""
    x, w = torch.randn(300, 8, generator=GENERATOR).requires_grad_(), torch.randn(1000, 8, generator=GENERATOR).requires_grad_()
    target = torch.randint(1000, (300,), generator=GENERATOR)
    unit_x, unit_w = torch.nn.functional.normalize(x.double()), torch.nn.functional.normalize(w.double())
    expected = torch.nn.functional.cross_entropy(20 * unit_x @ unit_w.T, target)
    value = normalized_softmax(x, target, w)
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=0)
    for got, wanted in zip(torch.autograd.grad(value, (x, w)), torch.autograd.grad(expected, (x, w)), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-7)


def test_a_learned_scale_starts_where_it_was_set_and_follows_the_loss() -> None:
    loss = NormalizedSoftmaxLoss(num_classes=3, embedding_dim=4, scale=3.0, learnable_scale=True).double()
    with torch.no_grad():
        loss.weight.copy_(W)
    value = loss(X, TARGET)
    torch.testing.assert_close(value, normalized_softmax(X, TARGET, W, scale=3.0))
    assert loss.log_scale is not None
    (slope,) = torch.autograd.grad(value, loss.log_scale)
    up, down = (normalized_softmax(X, TARGET, W, scale=3.0 * math.exp(step)) for step in (1e-6, -1e-6))
    assert slope.item() == pytest.approx((up - down).item() / 2e-6, rel=1e-5)
    with torch.no_grad():
        loss.log_scale.fill_(math.log(9.0))
    p = loss.link(X)
    torch.testing.assert_close(-p[torch.arange(7), TARGET].log().mean(), normalized_softmax(X, TARGET, W, scale=9.0))


def test_an_embedding_of_zeros_is_no_nearer_to_one_class_than_to_another() -> None:
    x = torch.zeros(1, 4, dtype=torch.float16, requires_grad=True)
    value = normalized_softmax(x, torch.tensor([1]), W.float())
    assert value.item() == pytest.approx(math.log(3))
    (gradient,) = torch.autograd.grad(value, x)
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0


@pytest.mark.parametrize(
    ("embedding", "given", "message"),
    [
        (torch.zeros(2, 3), {}, r"embedding must have shape \(N, 4\), got \(2, 3\)"),
        (torch.zeros(2, 4, 1), {}, r"embedding must have shape \(N, 4\), got \(2, 4, 1\)"),
        (torch.zeros(2, 4), {"class_weight": torch.ones(2)}, r"class_weight must have shape \(3,\), got \(2,\)"),
    ],
)
def test_bad_input_is_one_sentence(embedding: Tensor, given: dict[str, Tensor], message: str) -> None:
    loss = NormalizedSoftmaxLoss(num_classes=3, embedding_dim=4, **given)  # type: ignore[arg-type]
    with pytest.raises(LossaryError, match=f"^normalized_softmax: {message}"):
        loss(embedding, torch.tensor([0, 1]))
    if not given:
        with pytest.raises(LossaryError, match=f"^normalized_softmax: {message}"):
            loss.link(embedding)
