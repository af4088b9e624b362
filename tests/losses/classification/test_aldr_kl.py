"""What is true of ALDR-KL alone; the conformance suite does the rest."""

import math

import pytest
import torch
from torch import Tensor

from lossary import LossaryError
from lossary.losses.classification.aldr_kl import AldrKlLoss, aldr_kl
from lossary.losses.classification.cross_entropy import cross_entropy

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(8, 5, generator=GENERATOR, dtype=torch.float64) * 3
TARGET = torch.randint(5, (8,), generator=GENERATOR)
INDEX = torch.tensor([3, 0, 11, 7, 5, 2, 9, 1])
STORED = torch.rand(12, generator=GENERATOR, dtype=torch.float64) + 0.5


def by_hand(z: list[float], y: int, stored: float, start: float, margin: float, alpha: float) -> tuple[float, float]:
    q = [v - z[y] + (margin if k != y else 0.0) for k, v in enumerate(z)]
    mass = [math.exp(v / stored) for v in q]
    p = [m / sum(mass) for m in mass]
    divergence = sum(v * math.log(len(z) * v) for v in p)
    a = alpha * math.log(len(z)) / start
    new = start - divergence / a
    value = new * math.log(sum(math.exp(v / new) for v in q) / len(z)) - a / 2 * (new - start) ** 2
    return value, new


def test_matches_a_loop() -> None:
    values, temperatures = aldr_kl(LOGITS, TARGET, INDEX, STORED, temperature=2.0, margin=0.3, alpha=1.5, reduction="none")
    for i, (z, y) in enumerate(zip(LOGITS.tolist(), TARGET.tolist(), strict=True)):
        value, new = by_hand(z, y, STORED[INDEX[i]].item(), 2.0, 0.3, 1.5)
        assert values[i].item() == pytest.approx(value)
        assert temperatures[i].item() == pytest.approx(new)


def fixed(temperature: float, margin: float = 0.0) -> Tensor:
    """With a large alpha the temperatures stay where they start."""
    loss, _ = aldr_kl(LOGITS, TARGET, INDEX, STORED, temperature=temperature, margin=margin, alpha=1e12, reduction="none")
    return loss


def test_limits_of_the_temperature() -> None:
    q = LOGITS - LOGITS.gather(1, TARGET.unsqueeze(1)) + 0.2 * (torch.arange(5) != TARGET.unsqueeze(1))
    torch.testing.assert_close(fixed(1.0), cross_entropy(LOGITS, TARGET, reduction="none") - math.log(5))
    torch.testing.assert_close(fixed(1e-4, 0.2), q.amax(1), atol=1e-3, rtol=0)  # Crammer and Singer's
    torch.testing.assert_close(fixed(1e6, 0.2), q.mean(1), atol=1e-4, rtol=0)


def test_temperatures_lie_between_their_bounds_and_confidence_lowers_them() -> None:
    logits = torch.tensor([[1e4, 0.0, 0.0], [0.0, 0.0, 0.0], [3.0, 0.0, 0.0]])
    _, new = aldr_kl(logits, torch.zeros(3).long(), torch.arange(3), torch.ones(3), temperature=1.0, margin=0.0, alpha=2.0)
    torch.testing.assert_close(new[:2], torch.tensor([0.5, 1.0]))
    assert 0.5 < new[2] < 1.0


def test_the_gradient_is_that_of_a_constant_temperature() -> None:
    logits = LOGITS.clone().requires_grad_()
    loss, new = aldr_kl(logits, TARGET, INDEX, STORED, margin=0.1)
    (gradient,) = torch.autograd.grad(loss, logits)
    q = LOGITS + 0.1 * (torch.arange(5) != TARGET.unsqueeze(1))
    expected = ((q / new.unsqueeze(1)).softmax(1) - torch.nn.functional.one_hot(TARGET, 5)) / 8
    torch.testing.assert_close(gradient, expected)
    assert not new.requires_grad


def test_the_memory_is_written_in_training_only_and_travels() -> None:
    loss = AldrKlLoss(num_samples=12, temperature=2.0)
    loss.eval()
    before = loss(LOGITS, TARGET, INDEX)
    assert (loss.sample_temperature == 2.0).all()
    loss.train()
    assert loss(LOGITS, TARGET, INDEX) == before
    assert (loss.sample_temperature[INDEX] < 2.0).all()
    untouched = torch.ones(12, dtype=torch.bool).index_fill(0, INDEX, False)
    assert (loss.sample_temperature[untouched] == 2.0).all()
    again = AldrKlLoss(num_samples=12, temperature=2.0)
    again.load_state_dict(loss.state_dict())
    assert again(LOGITS, TARGET, INDEX) == loss(LOGITS, TARGET, INDEX)
    assert loss(LOGITS, TARGET, INDEX) != before  # the next visit starts from what was stored


@pytest.mark.parametrize("how", ["l1", "softplus"])
def test_normalised_logits_match_a_loop(how: str) -> None:
    rows = []
    for z in LOGITS.tolist():
        v = z if how == "l1" else [math.log1p(math.exp(x)) for x in z]
        rows.append([x * 5 / sum(abs(y) for y in v) for x in v])
    plain, _ = aldr_kl(torch.tensor(rows, dtype=torch.float64), TARGET, INDEX, STORED)
    loss, _ = aldr_kl(LOGITS, TARGET, INDEX, STORED, normalize=how)  # type: ignore[arg-type]
    torch.testing.assert_close(loss, plain)
    linked = AldrKlLoss(num_samples=12, temperature=10.0, normalize=how).link(LOGITS)  # type: ignore[arg-type]
    torch.testing.assert_close(linked, (torch.tensor(rows, dtype=torch.float64) / 10).softmax(1))


@pytest.mark.parametrize("how", ["l1", "softplus"])
@pytest.mark.parametrize("size", [0.0, -1e4, -40.0, 1e4])
def test_normalisation_of_rows_without_size(how: str, size: float) -> None:
    logits = torch.full((1, 3), size).index_fill(1, torch.tensor([1]), size / 2).requires_grad_()
    loss, _ = aldr_kl(logits, torch.tensor([0]), torch.tensor([0]), torch.ones(1), normalize=how)  # type: ignore[arg-type]
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.isfinite()
    assert gradient.isfinite().all()
    if how == "softplus" and size < 0:  # the largest logit has the whole mass, though its softplus is no float32 number
        assert AldrKlLoss(num_samples=1, normalize="softplus").link(logits)[0].argmax() == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"logits": LOGITS[:, :1]}, "logits must have at least 2 classes in dimension 1, got 1"),
        ({"logits": LOGITS.unsqueeze(2), "target": TARGET.unsqueeze(1)}, r"logits must have shape \(N, C\), got \(8, 5, 1\)"),
        ({"target": LOGITS.softmax(1)}, r"target must have shape \(N,\), got \(8, 5\)"),
        ({"index": INDEX[:2]}, r"index must have shape \(8,\), got \(2,\)"),
        ({"alpha": 1.0}, "alpha must be a finite number > 1, got 1.0"),
    ],
)
def test_bad_input_is_one_sentence(given: dict[str, object], message: str) -> None:
    arguments = {"logits": LOGITS, "target": TARGET, "index": INDEX, "sample_temperature": STORED}
    with pytest.raises(LossaryError, match=f"^aldr_kl: {message}"):
        aldr_kl(**{**arguments, **given})  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_any_integers_are_places_and_classes(dtype: torch.dtype) -> None:
    """Of uint8 as well, which indexing takes for a mask, and of as many as there are samples."""
    index, target = torch.tensor([2, 0, 1]), torch.tensor([1, 0, 4])
    expected, loss = (AldrKlLoss(num_samples=3) for _ in range(2))
    assert loss(LOGITS[:3], target.to(dtype), index.to(dtype)) == expected(LOGITS[:3], target, index)
    assert loss.sample_temperature.tolist() == expected.sample_temperature.tolist()
