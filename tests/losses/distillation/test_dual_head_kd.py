"""Dual-head distillation: against a loop, its limits, which head learns what, and the alignment of gradients."""

import math

import pytest
import torch

from lossary import LossaryError, functional
from lossary.losses.distillation.dual_head_kd import align_gradients, dual_head_kd

GENERATOR = torch.Generator().manual_seed(0)
S, A, T = torch.randn(3, 6, 5, generator=GENERATOR, dtype=torch.float64).unbind()
TARGET = torch.randint(5, (6,), generator=GENERATOR)


def test_matches_a_loop_of_divergences() -> None:
    expected = []
    for s, a, t, y in zip(S.tolist(), A.tolist(), T.tolist(), TARGET.tolist(), strict=True):
        total = 0.0
        for one, other in zip(a, t, strict=True):
            p = 1 / (1 + math.exp(-(one - other) / 3.0))
            total += 0.5 * math.log(0.5 / p) + 0.5 * math.log(0.5 / (1 - p))
        expected.append(0.7 * 9.0 * total + 2.0 * (math.log(sum(map(math.exp, s))) - s[y]))
    value = dual_head_kd(S, T, TARGET, A, alpha=0.7, gamma=2.0, temperature=3.0, reduction="none")
    torch.testing.assert_close(value, S.new_tensor(expected))


def test_small_and_large_distances_have_their_limits() -> None:
    small = 1e-4 * A
    torch.testing.assert_close(dual_head_kd(T + small, T, reduction="none"), small.square().sum(1) / 8, rtol=1e-6, atol=0)
    torch.testing.assert_close(
        dual_head_kd(T + small, T, temperature=7.0), dual_head_kd(T + small, T, temperature=1.0), rtol=1e-6, atol=0
    )
    far = dual_head_kd(T + 1e4 * A.sign(), T, temperature=3.0, reduction="none")
    torch.testing.assert_close(far, torch.full_like(far, 5 * (3.0 * 1e4 / 2 - 9.0 * math.log(2))))
    assert dual_head_kd(S, T, auxiliary=T).item() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_far_out_the_gradient_is_as_large_as_ever(dtype: torch.dtype) -> None:
    """A clamped sigmoid has none there."""
    a = torch.tensor([[1e4, -1e4]], dtype=dtype, requires_grad=True)
    value = dual_head_kd(a, torch.tensor([[-1e4, 1e4]], dtype=dtype))
    assert value.isfinite()
    torch.testing.assert_close(torch.autograd.grad(value, a)[0], torch.tensor([[1.0, -1.0]], dtype=dtype))


def test_each_head_learns_from_its_own_teacher() -> None:
    s, a, t = (z.clone().requires_grad_() for z in (S, A, T))
    by_labels, by_teacher = torch.autograd.grad(dual_head_kd(s, t, TARGET, a), (s, a))
    torch.testing.assert_close(by_labels, torch.autograd.grad(torch.nn.functional.cross_entropy(s, TARGET), s)[0])
    torch.testing.assert_close(by_teacher, torch.autograd.grad(dual_head_kd(a, t), a)[0])
    with pytest.raises(RuntimeError, match="not have been used"):
        torch.autograd.grad(dual_head_kd(s, t, TARGET, a), t)


def test_without_an_auxiliary_head_both_act_on_one() -> None:
    together = dual_head_kd(S, T, TARGET, alpha=0.3)
    torch.testing.assert_close(together, dual_head_kd(S, T, TARGET, S, alpha=0.3))


def test_aligned_gradients_do_not_oppose_the_task() -> None:
    task = [torch.randn(3, 4, generator=GENERATOR), torch.randn(5, generator=GENERATOR)]
    for sign in (1.0, -1.0):
        distill = [torch.randn(3, 4, generator=GENERATOR) + sign * task[0], torch.randn(5, generator=GENERATOR) + sign * task[1]]
        aligned = align_gradients(task, distill)
        g, d, a = (torch.cat([part.flatten() for part in parts if part is not None]) for parts in (task, distill, aligned))
        assert ((g @ d) < 0) == (sign < 0)
        if sign > 0:
            torch.testing.assert_close(a, d)
        else:
            torch.testing.assert_close(g @ a, torch.zeros(()), atol=1e-4, rtol=0)
            torch.testing.assert_close(a, d - (g @ d) / (g @ g) * g)


def test_parameters_of_one_loss_only_are_part_of_the_product_as_zeros() -> None:
    task, distill = [torch.tensor([3.0]), torch.tensor([4.0]), None], [torch.tensor([-5.0]), None, torch.tensor([7.0])]
    assert functional.align_gradients is align_gradients
    first, second, third = align_gradients(task, distill)
    assert first is not None
    assert second is not None
    assert third is distill[2]
    torch.testing.assert_close(torch.cat([first, second]), torch.tensor([-5.0 + 15 / 25 * 3, 15 / 25 * 4]))
    assert align_gradients([torch.zeros(2)], [torch.ones(2)])[0].tolist() == [1.0, 1.0]  # type: ignore[union-attr]
    with pytest.raises(LossaryError, match="align_gradients: distill must have 3 gradients, as task has, got 1"):
        align_gradients(task, distill[:1])
