"""Knowledge distillation: against a loop, its limits, and what large logits do to it."""

import math

import pytest
import torch

from lossary.losses.distillation.knowledge_distillation import knowledge_distillation

GENERATOR = torch.Generator().manual_seed(0)
S = torch.randn(6, 5, generator=GENERATOR, dtype=torch.float64) * 3
T = torch.randn(6, 5, generator=GENERATOR, dtype=torch.float64) * 3
TARGET = torch.randint(5, (6,), generator=GENERATOR)


def softmax(z: list[float], temperature: float) -> list[float]:
    powers = [math.exp(v / temperature) for v in z]
    return [p / sum(powers) for p in powers]


@pytest.mark.parametrize(("temperature", "alpha"), [(4.0, 0.9), (1.0, 0.3), (0.7, 0.0)])
def test_matches_a_loop(temperature: float, alpha: float) -> None:
    expected = []
    for s, t, y in zip(S.tolist(), T.tolist(), TARGET.tolist(), strict=True):
        p, q = softmax(t, temperature), softmax(s, temperature)
        divergence = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        expected.append(alpha * temperature**2 * divergence - (1 - alpha) * math.log(softmax(s, 1.0)[y]))
    value = knowledge_distillation(S, T, TARGET, temperature=temperature, alpha=alpha, reduction="none")
    torch.testing.assert_close(value, S.new_tensor(expected))


def test_zero_where_both_give_the_same_probabilities_and_only_there() -> None:
    torch.testing.assert_close(knowledge_distillation(T + 3.0, T), T.new_zeros(()), atol=1e-12, rtol=0)
    assert (knowledge_distillation(S, T, reduction="none") > 0.01).all()


def test_at_a_high_temperature_it_matches_centred_logits() -> None:
    s, t = S - S.mean(1, keepdim=True), T - T.mean(1, keepdim=True)
    expected = (s - t).square().sum(1) / (2 * 5)
    value = knowledge_distillation(S, T, temperature=1e4, alpha=1.0, reduction="none")
    torch.testing.assert_close(value, expected, rtol=1e-3, atol=0)


def test_the_teacher_learns_nothing() -> None:
    s, t = S.clone().requires_grad_(), T.clone().requires_grad_()
    knowledge_distillation(s, t, TARGET).backward()
    assert t.grad is None
    assert s.grad is not None
    p, q = (T / 4).softmax(1), (S / 4).softmax(1)
    labels = (S.softmax(1) - torch.nn.functional.one_hot(TARGET, 5)) * 0.1
    torch.testing.assert_close(s.grad * 6, 0.9 * 4 * (q - p) + labels)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_large_logits_of_opposite_opinion_are_pulled_together(dtype: torch.dtype) -> None:
    s = torch.tensor([[1e4, -1e4, 0.0]], dtype=dtype, requires_grad=True)
    value = knowledge_distillation(s, torch.tensor([[-1e4, 1e4, 0.0]], dtype=dtype), torch.tensor([1]))
    assert value.isfinite()
    (gradient,) = torch.autograd.grad(value, s)
    torch.testing.assert_close(gradient.float(), torch.tensor([[3.7, -3.7, 0.0]]), rtol=0.01, atol=0.01)


def test_a_sample_without_a_label_keeps_its_teacher() -> None:
    target = TARGET.clone()
    target[2] = -100
    value = knowledge_distillation(S, T, target, reduction="none")
    torch.testing.assert_close(value[2], knowledge_distillation(S, T, reduction="none")[2])
    torch.testing.assert_close(value[3], knowledge_distillation(S, T, TARGET, reduction="none")[3])


def test_maps_are_distilled_place_by_place() -> None:
    s, t = S.T.reshape(1, 5, 2, 3), T.T.reshape(1, 5, 2, 3)
    value = knowledge_distillation(s, t, TARGET.view(1, 2, 3), reduction="none")
    torch.testing.assert_close(value.flatten(), knowledge_distillation(S, T, TARGET, reduction="none"))
