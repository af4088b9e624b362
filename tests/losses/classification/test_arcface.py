"""What is true of ArcFace alone; the conformance suite does the rest."""

import math
from operator import mul

import pytest
import torch
from torch import Tensor

from lossary.losses.classification.arcface import ArcFaceLoss, arcface
from lossary.losses.classification.cosface import cosface
from lossary.losses.classification.normalized_softmax import normalized_softmax

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(40, 4, generator=GENERATOR, dtype=torch.float64)
W = torch.randn(3, 4, generator=GENERATOR, dtype=torch.float64)
TARGET = torch.randint(3, (40,), generator=GENERATOR)


def by_hand(x: list[float], w: list[list[float]], y: int, scale: float, margin: float) -> float:
    angles = [math.acos(sum(map(mul, x, v)) / (math.hypot(*x) * math.hypot(*v))) for v in w]
    logits = [scale * math.cos(angle) for angle in angles]
    beyond = angles[y] + margin >= math.pi
    logits[y] = scale * (math.cos(angles[y]) - margin * math.sin(margin) if beyond else math.cos(angles[y] + margin))
    largest = max(logits)
    return largest + math.log(sum(math.exp(z - largest) for z in logits)) - logits[y]


@pytest.mark.parametrize(("scale", "margin"), [(9.0, 0.5), (64.0, 0.5), (1.0, 1.2), (9.0, 3.0)])
def test_matches_a_loop_over_angles(scale: float, margin: float) -> None:
    expected = [by_hand(x, W.tolist(), y, scale, margin) for x, y in zip(X.tolist(), TARGET.tolist(), strict=True)]
    value = arcface(X, TARGET, W, scale=scale, margin=margin, reduction="none")
    torch.testing.assert_close(value, X.new_tensor(expected))


def test_the_loss_rises_with_the_angle_over_the_whole_half_circle() -> None:
    """Also beyond pi - m, where cos(theta + m) would fall again."""
    angles = torch.linspace(0.0, math.pi, 200, dtype=torch.float64)
    x = torch.stack([angles.cos(), angles.sin(), torch.zeros_like(angles)], 1).requires_grad_()
    w = torch.eye(3, dtype=torch.float64)[[0, 2]]  # the other class is at the same angle from all of them
    value = arcface(x, torch.zeros(200, dtype=torch.int64), w, reduction="none")
    assert (value.diff() > 0).all()
    (gradient,) = torch.autograd.grad(value.sum(), x)
    across = torch.stack([-angles.sin(), angles.cos()], 1)
    turn = (gradient[:, :2] * across).sum(1)
    assert (turn[1:-1] > 0).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_exactly_on_the_class_and_opposite_to_it_gradients_are_finite(dtype: torch.dtype) -> None:
    w = torch.eye(4)[:2].to(torch.float64 if dtype == torch.float64 else torch.float32).requires_grad_()
    x = torch.eye(4, dtype=dtype)[[0, 0, 1, 1]].mul(torch.tensor([[0.5], [-0.5], [1.0], [-1.0]], dtype=dtype)).requires_grad_()
    value = arcface(x, torch.tensor([0, 0, 1, 1]), w, reduction="sum")
    assert value.isfinite()
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(value, (x, w)))


def test_a_confident_sample_keeps_its_digits_in_single_precision() -> None:
    """Where the plain softmax is 1 to all digits, the margin still makes a loss of several nats."""
    angle = 0.2
    x = torch.tensor([[math.cos(angle), math.sin(angle), 0.0]])
    w = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.0, 0.75**0.5]])
    expected = by_hand(x.double()[0].tolist(), w.double().tolist(), 0, 64.0, 0.9)
    assert arcface(x, torch.tensor([0]), w, margin=0.9).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("soft", [False, True])
def test_many_classes_give_what_few_operations_give(soft: bool) -> None:
    """Large inputs take another way through the memory; the gradient is held to that of a plain program."""
    x, w = torch.randn(200, 8, generator=GENERATOR).requires_grad_(), torch.randn(500, 8, generator=GENERATOR).requires_grad_()
    target = torch.randint(500, (200,), generator=GENERATOR)
    given = torch.nn.functional.one_hot(target, 500).float() if soft else target
    cosine = torch.nn.functional.normalize(x.double()) @ torch.nn.functional.normalize(w.double()).T
    turned = torch.where(cosine > math.cos(math.pi - 0.5), (cosine.acos() + 0.5).cos(), cosine - 0.5 * math.sin(0.5))
    expected = torch.nn.functional.cross_entropy(64 * cosine.scatter(1, target[:, None], turned.gather(1, target[:, None])), target)
    value = arcface(x, given, w)
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=0)
    for got, wanted in zip(torch.autograd.grad(value, (x, w)), torch.autograd.grad(expected, (x, w)), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-6)


def test_margins_of_angle_and_of_cosine_agree_to_first_order_and_there_is_none_at_zero() -> None:
    plain = normalized_softmax(X, TARGET, W, scale=64.0, reduction="none")
    torch.testing.assert_close(arcface(X, TARGET, W, margin=0.0, reduction="none"), plain)
    cosine = torch.nn.functional.cosine_similarity(X, W[TARGET])
    small = 1e-5
    for i in range(5):
        same = cosface(X[i : i + 1], TARGET[i : i + 1], W, margin=small * math.sin(math.acos(cosine[i])))
        assert (arcface(X[i : i + 1], TARGET[i : i + 1], W, margin=small) - same).abs() < 1e-7


def test_the_link_has_no_margin() -> None:
    loss = ArcFaceLoss(num_classes=3, embedding_dim=4)
    with torch.no_grad():
        loss.weight.copy_(W)
    truth: Tensor = loss.link(X)[torch.arange(40), TARGET]
    torch.testing.assert_close(-truth.log(), normalized_softmax(X, TARGET, W.float(), scale=64.0, reduction="none"))
