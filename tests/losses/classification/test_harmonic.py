"""What is true of the harmonic loss alone; the conformance suite does the rest."""

import math

import pytest
import torch
from torch import Tensor

from lossary import LossaryError
from lossary.losses.classification.harmonic import HarmonicLoss, harmonic

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(7, 4, generator=GENERATOR, dtype=torch.float64)
W = torch.randn(3, 4, generator=GENERATOR, dtype=torch.float64)
TARGET = torch.randint(3, (7,), generator=GENERATOR)


@pytest.mark.parametrize(("exponent", "n"), [(None, 2.0), (5.0, 5.0)])
def test_matches_a_loop_over_distances(exponent: float | None, n: float) -> None:
    expected = []
    for x, y in zip(X.tolist(), TARGET.tolist(), strict=True):
        d = [math.sqrt(sum((a - b) ** 2 for a, b in zip(x, w, strict=True)) + 1e-4) for w in W.tolist()]
        expected.append(-math.log(d[y] ** -n / sum(v**-n for v in d)))
    value = harmonic(X, TARGET, W, exponent=exponent, reduction="none")
    torch.testing.assert_close(value, X.new_tensor(expected))


def test_the_link_is_the_probability_of_the_loss_and_the_nearest_centre_wins() -> None:
    loss = HarmonicLoss(num_classes=3, embedding_dim=4)
    with torch.no_grad():
        loss.weight.copy_(W)
    p = loss.link(X)
    torch.testing.assert_close(-p[torch.arange(7), TARGET].log().mean(), loss(X, TARGET))
    assert torch.equal(p.argmax(1), torch.cdist(X, loss.weight.double()).argmin(1))


def test_centres_start_with_about_unit_length() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weight = HarmonicLoss(num_classes=500, embedding_dim=25).weight
    assert weight.std().item() == pytest.approx(0.2, rel=0.05)


def test_scaling_embeddings_and_centres_together_changes_nothing_without_eps() -> None:
    plain = harmonic(X, TARGET, W, eps=0.0)
    torch.testing.assert_close(harmonic(X * 1e3, TARGET, W * 1e3, eps=0.0), plain)
    assert harmonic(X * 1e-2, TARGET, W * 1e-2) != pytest.approx(plain.item(), rel=1e-3)  # with the default there is a scale


def test_the_loss_vanishes_at_finite_weights() -> None:
    at_centre = harmonic(W[TARGET], TARGET, W, eps=0.0, reduction="none")
    assert (at_centre < 1e-12).all()
    assert harmonic(W[TARGET], TARGET, W, eps=1e-4).item() < 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_small_distance_between_large_vectors_keeps_its_digits(dtype: torch.dtype) -> None:
    """Where the expanded square in float32 gives 0 or less."""
    w = torch.full((2, 8), 100.0, dtype=dtype)
    w[1] += 1.0
    x = (w[:1] + 0.0078125).requires_grad_()  # a number that float32 holds exactly beside 100
    value = harmonic(x, torch.tensor([0]), w, exponent=2.0, eps=0.0)
    near, far = 8 * 0.0078125**2, 8 * (1 - 0.0078125) ** 2
    assert value.item() == pytest.approx(math.log1p(near / far), rel=1e-5)
    (gradient,) = torch.autograd.grad(value, x)
    away = 2 * 0.0078125 / near * (near / far) / (1 + near / far) + 2 * (1 - 0.0078125) / far * (near / far) / (1 + near / far)
    torch.testing.assert_close(gradient, torch.full_like(gradient, away), rtol=1e-4, atol=0)


def test_large_exponents_do_not_overflow() -> None:
    loss = HarmonicLoss(num_classes=3, embedding_dim=4, exponent=768.0)
    value = loss(X * 1e-3, TARGET)
    (gradient,) = torch.autograd.grad(value, loss.weight)
    assert value.isfinite()
    assert gradient.isfinite().all()


def test_embeddings_far_from_every_centre_still_have_digits() -> None:
    """In float32 all squares would be one number."""
    w = torch.tensor([[0.0], [1.0]])
    value = harmonic(torch.tensor([[1e4]]), torch.tensor([0]), w, exponent=1.0, eps=0.0)
    assert value.item() == pytest.approx(math.log(1 + 1e4 / (1e4 - 1)), rel=1e-6)


def test_centres_come_to_look_like_their_class() -> None:
    """The paper's prototypes: an order of magnitude nearer to the class means than those of a linear layer."""
    generator = torch.Generator().manual_seed(3)
    means = torch.randn(4, 16, generator=generator)
    target = torch.randint(4, (400,), generator=generator)
    x = means[target] + 0.5 * torch.randn(400, 16, generator=generator)

    def train(parameters: list[Tensor], loss: object) -> None:
        assert callable(loss)
        optimizer = torch.optim.Adam(parameters, lr=0.02)
        for _ in range(400):
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()

    own = HarmonicLoss(num_classes=4, embedding_dim=16)
    linear = torch.nn.Linear(16, 4)
    with torch.no_grad():
        for parameter in (own.weight, linear.weight):
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 4)
    train([own.weight], lambda: own(x, target))
    train(list(linear.parameters()), lambda: torch.nn.functional.cross_entropy(linear(x), target))

    def likeness(weight: Tensor) -> float:
        return torch.cosine_similarity(weight.detach(), means, 1).mean().item()

    assert likeness(own.weight) > 0.9
    assert likeness(own.weight) > likeness(linear.weight) + 0.1


@pytest.mark.parametrize(
    ("embedding", "given", "message"),
    [
        (torch.zeros(2, 3), {}, r"embedding must have shape \(N, 4\), got \(2, 3\)"),
        (torch.zeros(2, 4, 1), {}, r"embedding must have shape \(N, 4\), got \(2, 4, 1\)"),
        (torch.zeros(2, 4), {"class_weight": torch.ones(2)}, r"class_weight must have shape \(3,\), got \(2,\)"),
    ],
)
def test_bad_input_is_one_sentence(embedding: Tensor, given: dict[str, Tensor], message: str) -> None:
    loss = HarmonicLoss(num_classes=3, embedding_dim=4, **given)  # type: ignore[arg-type]
    with pytest.raises(LossaryError, match=f"^harmonic: {message}"):
        loss(embedding, torch.tensor([0, 1]))
    if not given:
        with pytest.raises(LossaryError, match=f"^harmonic: {message}"):
            loss.link(embedding)
