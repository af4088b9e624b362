"""What is true of direct coverage optimisation alone; the conformance suite does the rest."""

import math

import pytest
import torch

from lossary.errors import LossaryError
from lossary.losses.classification import DcoLoss
from lossary.losses.classification.cross_entropy import cross_entropy
from lossary.losses.classification.dco import dco

LOGITS = 2 * torch.randn(20, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
TARGET = torch.arange(20) % 5


def probability(z: list[float], y: int) -> float:
    return math.exp(z[y]) / sum(map(math.exp, z))


@pytest.mark.parametrize("num_samples", [2, 16, 4096])
def test_matches_a_loop(num_samples: int) -> None:
    p = [probability(z, y) for z, y in zip(LOGITS.tolist(), TARGET.tolist(), strict=True)]
    expected = [-math.log1p(-((1 - q) ** num_samples)) for q in p]
    found = dco(LOGITS, TARGET, num_samples=num_samples, reduction="none")
    torch.testing.assert_close(found, LOGITS.new_tensor(expected))


def test_between_cross_entropy_and_that_less_log_n() -> None:
    reference = cross_entropy(LOGITS, TARGET, reduction="none")
    value = dco(LOGITS, TARGET, num_samples=16, reduction="none")
    assert (value <= reference).all()
    assert (value >= reference - math.log(16) - 1e-12).all()


def test_the_gradient_is_that_of_cross_entropy_times_a_falling_factor() -> None:
    # two classes, so that the gap of the logits is log(p / (1 - p))
    p = torch.tensor([1e-9, 1e-4, 0.01, 0.1, 0.5, 0.9, 0.999], dtype=torch.float64)
    logits = torch.stack([(p / (1 - p)).log(), torch.zeros(7, dtype=torch.float64)], 1).requires_grad_()
    target = torch.zeros(7, dtype=torch.long)
    (mine,) = torch.autograd.grad(dco(logits, target, reduction="sum"), logits)
    (reference,) = torch.autograd.grad(cross_entropy(logits, target, reduction="sum"), logits)
    factor = 16 * p * (1 - p) ** 15 / (1 - (1 - p) ** 16)
    torch.testing.assert_close(mine, reference * factor.unsqueeze(1), rtol=1e-6, atol=1e-14)
    assert (factor.diff() < 0).all()


@pytest.mark.parametrize("num_samples", [16, 4096])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_both_ends(dtype: torch.dtype, num_samples: int) -> None:
    logits = torch.tensor([[1e4, 0.0], [-1e4, 0.0], [-80.0, 0.0], [17.0, 0.0], [0.0, 0.0]], dtype=dtype, requires_grad=True)
    value = dco(logits, torch.zeros(5, dtype=torch.long), num_samples=num_samples, reduction="none")
    value.sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    size = float(logits[1, 0].detach())
    expected = [0.0, -size - math.log(num_samples), 80 - math.log(num_samples), 0.0, -math.log1p(-(0.5**num_samples))]
    assert value.tolist() == pytest.approx(expected, rel=1e-5, abs=1e-7)
    assert logits.grad[1, 0].item() == pytest.approx(-1.0)


@pytest.mark.parametrize("num_samples", [16, 64, 65, 4096])
def test_float32_is_right_around_the_place_where_the_form_changes(num_samples: int) -> None:
    logits = torch.stack([torch.linspace(-25, 3, 400), torch.zeros(400)], 1).requires_grad_()
    exact = logits.detach().double().requires_grad_()
    target = torch.zeros(400, dtype=torch.long)
    for loss, z in (
        (dco(logits, target, num_samples=num_samples, reduction="none"), logits),
        (dco(exact, target, num_samples=num_samples, reduction="none"), exact),
    ):
        loss.sum().backward()
        assert z.grad is not None
    torch.testing.assert_close(
        dco(logits, target, num_samples=num_samples, reduction="none").double(),
        dco(exact, target, num_samples=num_samples, reduction="none"),
        rtol=2e-5,
        atol=1e-7,
    )
    assert logits.grad is not None
    assert exact.grad is not None
    torch.testing.assert_close(logits.grad.double(), exact.grad, rtol=1e-4, atol=1e-7)


def test_a_sequence_is_right_if_all_its_tokens_are() -> None:
    logits = torch.randn(3, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    target = torch.tensor([[1, 2, -100, 5], [-100, -100, 0, 3], [-100, -100, -100, -100]])
    expected = []
    for rows, tokens in zip(logits.tolist(), target.tolist(), strict=True):
        p = math.prod(probability(z, y) for z, y in zip(rows, tokens, strict=True) if y != -100)
        expected.append(-math.log1p(-((1 - p) ** 16)) if any(y != -100 for y in tokens) else 0.0)
    found = dco(logits, target, level="sequence", reduction="none")
    torch.testing.assert_close(found, logits.new_tensor(expected))
    assert DcoLoss(level="sequence")(logits, target).item() == pytest.approx(sum(expected) / 2)
    assert dco(logits, torch.full((3, 4), -100), level="sequence").item() == 0.0


def test_refusals_at_the_level_of_sequences() -> None:
    logits, target = torch.zeros(2, 3, 4), torch.zeros(2, 3, dtype=torch.long)
    with pytest.raises(LossaryError, match="dco: level must be 'class' or 'sequence', got 'token'"):
        DcoLoss(level="token")  # type: ignore[arg-type]
    with pytest.raises(LossaryError, match=r"dco: logits must have shape \(N, T, V\), got \(2, 4\)"):
        dco(torch.zeros(2, 4), target, level="sequence")
    with pytest.raises(LossaryError, match=r"dco: target must have shape \(2, 3\), got \(2,\)"):
        dco(logits, target[:, 0], level="sequence")
    with pytest.raises(LossaryError, match="no weight"):
        dco(logits, target, level="sequence", weight=torch.ones(4))
    with pytest.raises(LossaryError, match=r"got label_smoothing=0\.1"):
        dco(logits, target, level="sequence", label_smoothing=0.1)
    for dtype in (torch.bool, torch.float32, torch.complex64):
        with pytest.raises(LossaryError, match=f"dco: target must be integers .int64., got {dtype}"):
            dco(logits, target.to(dtype), level="sequence")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_long_answer_is_too_unlikely_for_any_float_and_still_learnt(dtype: torch.dtype) -> None:
    logits = torch.zeros(1, 3000, 8, dtype=dtype, requires_grad=True)  # the answer has the probability 8 ** -3000
    value = dco(logits, torch.zeros(1, 3000, dtype=torch.long), level="sequence")
    value.backward()
    assert value.item() == pytest.approx(3000 * math.log(8) - math.log(16), rel=1e-5)
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad[..., 0].float(), torch.full((1, 3000), 1 / 8 - 1), rtol=1e-2, atol=0)
