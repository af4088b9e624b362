"""What is true of EnsLoss alone; the conformance suite does the rest."""

import math

import pytest
import torch

from lossary.errors import InvalidTypeError, InvalidValueError
from lossary.losses.multilabel.ensloss import EnsLoss, ensloss, inverse_box_cox


def batch(n: int = 40) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(n, dtype=torch.float64, generator=generator)
    return logits, torch.randint(2, (n,), generator=generator), torch.randn(n, dtype=torch.float64, generator=generator)


def gradient_of(logits: torch.Tensor, target: torch.Tensor, noise: torch.Tensor, box_cox: float) -> torch.Tensor:
    leaf = logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(ensloss(leaf, target, noise, box_cox=box_cox, reduction="sum"), leaf)
    return gradient


@pytest.mark.parametrize("box_cox", [0.0, 1.0, 0.3, -0.7])
def test_matches_a_loop(box_cox: float) -> None:
    logits, target, noise = batch()
    drawn = []
    for e in noise.tolist():
        if box_cox == 0:
            v = math.exp(e)
        else:
            base = max(1 + box_cox * e, 0.0)
            v = math.inf if base == 0 and box_cox < 0 else base ** (1 / box_cox)
        drawn.append(max(-v, -1.0))
    drawn.sort()
    margins = [(2 * y - 1) * z for z, y in zip(logits.tolist(), target.tolist(), strict=True)]
    slopes = [0.0] * len(margins)
    for r, i in zip(drawn, sorted(range(len(margins)), key=lambda i: margins[i]), strict=True):
        slopes[i] = (r / margins[i] if margins[i] > 1 else r) - 1e-6
    value = ensloss(logits, target, noise, box_cox=box_cox)
    assert value.item() == pytest.approx(sum(g * s for g, s in zip(slopes, margins, strict=True)) / len(margins))
    expected = [g * (2 * y - 1) for g, y in zip(slopes, target.tolist(), strict=True)]
    torch.testing.assert_close(gradient_of(logits, target, noise, box_cox), logits.new_tensor(expected))


@pytest.mark.parametrize("box_cox", [-1.0, 0.0, 1.0])
def test_slopes_are_those_of_a_convex_loss_with_a_heavy_tail(box_cox: float) -> None:
    logits, target, noise = batch()
    signs = 2 * target - 1
    margins, order = (signs * logits).sort()
    slopes = (gradient_of(logits, target, noise, box_cox) * signs)[order]
    assert (slopes <= -1e-6).all()
    assert (slopes >= -1 - 1e-6).all()
    assert (slopes[margins <= 1].diff() >= 0).all()
    assert (slopes.abs() <= 1 / margins.clamp_min(1) + 1e-6).all()


def test_one_sample_has_a_random_multiple_of_the_gradient_of_a_perceptron() -> None:
    for e in (-3.0, 0.5):
        gradient = gradient_of(torch.tensor([-2.0]), torch.tensor([1]), torch.tensor([e]), 0.0)
        assert gradient.item() == pytest.approx(-min(math.exp(e), 1) - 1e-6)


def test_box_cox_goes_through_zero_and_stays_a_number_where_its_base_is_zero() -> None:
    noise = torch.tensor([-5.0, -1.0, 0.0, 2.0, 5.0])
    torch.testing.assert_close(inverse_box_cox(noise, 1e-6), noise.exp(), rtol=1e-4, atol=0)
    for tiny in (1e-29, 1e-31, -1e-60):  # the last is 0 in single precision
        torch.testing.assert_close(inverse_box_cox(noise, tiny), noise.exp())
    assert inverse_box_cox(noise, 1.0).tolist() == pytest.approx([0, 0, 1, 3, 6])
    assert inverse_box_cox(noise, -1.0).tolist() == pytest.approx([1 / 6, 1 / 2, 1, math.inf, math.inf])


def test_evaluation_is_the_hinge_loss() -> None:
    logits, target, _ = batch()
    loss = EnsLoss().eval()
    hinge = [max(0.0, 1 - (z if y else -z)) for z, y in zip(logits.tolist(), target.tolist(), strict=True)]
    assert loss(logits, target).item() == pytest.approx(sum(hinge) / len(hinge))
    assert loss(logits, target) == loss(logits, target)
    with pytest.raises(InvalidValueError, match=r"ensloss: target must have shape \(40,\), got \(40, 1\)"):
        loss(logits, target.unsqueeze(1))


def test_draws_follow_the_generator_and_leave_the_global_state_alone() -> None:
    logits, target, _ = batch()
    before = torch.get_rng_state()
    first, second = (EnsLoss(generator=torch.Generator().manual_seed(1))(logits, target) for _ in range(2))
    loss = EnsLoss(generator=torch.Generator().manual_seed(1))
    assert first == second == loss(logits, target) != loss(logits, target)
    assert torch.equal(torch.get_rng_state(), before)


def test_draws_without_a_generator_follow_the_global_seed() -> None:
    logits, target, _ = batch()
    with torch.random.fork_rng():
        values = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            values.append(EnsLoss()(logits, target).item())
    assert values[0] == values[1] != values[2]


def test_lambda_is_drawn_at_the_end_of_an_epoch_where_that_is_asked_for() -> None:
    fixed, drawn = (EnsLoss(resample_box_cox=on, generator=torch.Generator().manual_seed(0)) for on in (False, True))
    fixed.epoch_end()
    assert fixed.box_cox == 0
    seen = []
    for _ in range(20):
        drawn.epoch_end()
        seen.append(drawn.box_cox)
    assert len(set(seen)) == 20
    assert -1 <= min(seen) < 0 < max(seen) <= 1


def test_noise_has_to_fit() -> None:
    logits, target, noise = batch()
    with pytest.raises(InvalidValueError, match=r"ensloss: noise must have shape \(40,\), got \(39,\)"):
        ensloss(logits, target, noise[1:])
    with pytest.raises(InvalidTypeError, match=r"ensloss: noise must be a tensor, got list"):
        ensloss(logits, target, noise.tolist())  # type: ignore[arg-type]


def test_parts_of_a_batch_have_orders_of_their_own() -> None:
    """Alone, each sample has the slope of its own number; together, the smaller margin has the steeper one."""
    logits, target, noise = torch.tensor([-1.0, 0.5]), torch.ones(2), torch.tensor([-3.0, 0.0])
    whole = gradient_of(logits, target, noise, 0.0)
    parts = torch.cat([gradient_of(logits[i : i + 1], target[i : i + 1], noise[i : i + 1], 0.0) for i in range(2)])
    torch.testing.assert_close(whole, parts.flip(0))
    assert whole[0] < whole[1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_has_the_slopes_of_double_precision(dtype: torch.dtype) -> None:
    logits, target, noise = batch()
    rounded = (5 * logits).to(dtype)
    assert len(rounded.unique()) > 30
    half, double = (gradient_of(given, target, noise.float(), 0.0) for given in (rounded, rounded.double()))
    assert half.dtype == dtype
    torch.testing.assert_close(half.double(), double, rtol=torch.finfo(dtype).eps, atol=0)
    assert ensloss(rounded, target, noise.float()).dtype == torch.float32


@pytest.mark.parametrize("size", [100.0, 1e4])
def test_a_sample_that_is_utterly_wrong_is_pulled_as_hard_as_any(size: float) -> None:
    logits = torch.tensor([-size, -0.1, size], dtype=torch.float16)
    gradient = gradient_of(logits, torch.ones(3, dtype=torch.int64), torch.tensor([0.1, -2.0, -3.0]), 0.0)
    assert gradient[0].item() == pytest.approx(-1)
    assert -1 / size - 1e-5 < gradient[2].item() < 0
