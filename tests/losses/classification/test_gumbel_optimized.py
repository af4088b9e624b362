"""What is true of the Gumbel Optimized Loss alone; the conformance suite does the rest."""

import math
import re

import pytest
import torch

from lossary.errors import LossaryError
from lossary.losses.classification import GumbelOptimizedLoss
from lossary.losses.classification.gumbel_optimized import gumbel_optimized

LOGITS = torch.randn(12, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 1.3


def test_matches_a_loop_with_classes_background_and_several_labels() -> None:
    classes = torch.arange(12) % 5  # 4 is the background
    several = (torch.rand(12, 4, generator=torch.Generator().manual_seed(1)) < 0.4).double()
    for target in (classes, several):
        expected = []
        for z, y in zip(LOGITS.tolist(), target.tolist(), strict=True):
            total = 0.0
            for c, v in enumerate(z):
                p = math.exp(-math.exp(-v))
                is_one = y == c if isinstance(y, int) else y[c]
                total += -math.log(p) if is_one else -math.log(1 - p)
            expected.append(total)
        torch.testing.assert_close(gumbel_optimized(LOGITS, target, reduction="none"), LOGITS.new_tensor(expected))


def test_printed_numbers_and_the_tail() -> None:
    zero = gumbel_optimized(torch.zeros(1, 2, dtype=torch.float64), torch.tensor([0]))
    assert zero.item() == pytest.approx(1 + 0.458675, abs=1e-6)
    negative = gumbel_optimized(torch.tensor([[9.0]], dtype=torch.float64), torch.tensor([1]))
    assert negative.item() == pytest.approx(9.0, abs=1e-4)


def test_a_missed_positive_pulls_exponentially_up_to_the_clamp() -> None:
    logits = torch.tensor([[-3.0], [-5.0], [11.0]], dtype=torch.float64, requires_grad=True)
    gumbel_optimized(logits, torch.tensor([0, 0, 1]), reduction="sum").backward()
    assert logits.grad is not None
    assert logits.grad.flatten().tolist() == pytest.approx([-math.exp(3), 0.0, 0.0])
    assert gumbel_optimized(torch.tensor([[-1e4]]), torch.tensor([0])).item() == pytest.approx(math.exp(4), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_wide_clamp_forms_no_exponential_of_an_exponential(dtype: torch.dtype) -> None:
    logits = torch.tensor([[-10.0, -10.0], [-60.0, 60.0]], dtype=dtype, requires_grad=True)  # exp(exp(10)) is beyond float64
    costs = gumbel_optimized(logits, torch.tensor([0, 1]), clamp=(-80.0, 80.0), reduction="none")
    assert costs.tolist() == pytest.approx([math.exp(10), math.exp(-60)], rel=1e-5, abs=1e-20)
    (gradient,) = torch.autograd.grad(costs.sum(), logits)
    assert gradient.flatten().tolist() == pytest.approx([-math.exp(10), 0, 0, 0], rel=1e-3, abs=1e-20)


def test_rare_classes_are_spared_the_negatives_of_foreground_samples() -> None:
    frequency = torch.tensor([0.5, 1e-4, 0.3, 1e-5])
    target = torch.tensor([0, 1, 2, 3])
    found = gumbel_optimized(LOGITS[:4], target, class_frequency=frequency, reduction="none")
    p = (-(-LOGITS[:4]).exp()).exp()
    cost = torch.where(torch.eye(4, dtype=torch.bool), -p.log(), -(1 - p).log())
    counts = torch.tensor([[1, 0, 1, 0], [1, 1, 1, 0], [1, 0, 1, 0], [1, 0, 1, 1]])
    torch.testing.assert_close(found, (cost * counts).sum(1))


def test_background_keeps_the_rare_negatives_in_the_share_of_rare_foreground() -> None:
    n = 4000
    target = torch.tensor([0, 0, 0, 1] * (n // 4) + [2] * n)  # a quarter of the foreground is of the rare class 1
    logits = torch.zeros(2 * n, 2, dtype=torch.float64)
    found = gumbel_optimized(
        logits, target, class_frequency=torch.tensor([0.5, 1e-4]), generator=torch.Generator().manual_seed(0), reduction="none"
    )[n:]
    negative = 0.4586751453870819
    kept = (found > 1.5 * negative).double().mean().item()  # both negatives count
    assert kept == pytest.approx(0.25, abs=0.03)
    assert found.min().item() == pytest.approx(negative)


def test_link_and_refusals() -> None:
    loss = GumbelOptimizedLoss()
    assert loss.link(torch.zeros(1, 3)).tolist()[0] == pytest.approx([math.exp(-1)] * 3)
    with pytest.raises(LossaryError, match=r"gumbel_optimized: logits must have shape \(N, C\), got \(2, 3, 4\)"):
        loss(torch.zeros(2, 3, 4), torch.zeros(2, 4, dtype=torch.long))
    for wrong in ((3.0, -3.0), (-81.0, 10.0), (0.0, math.nan), ("low", "high"), (1.0,), 4.0):
        sentence = f"gumbel_optimized: clamp must be two numbers from -80 to 80, the lower one first, got {re.escape(repr(wrong))}$"
        with pytest.raises(LossaryError, match=sentence):
            gumbel_optimized(torch.zeros(1, 2), torch.tensor([0]), clamp=wrong)  # type: ignore[arg-type]
        with pytest.raises(LossaryError, match=sentence):
            GumbelOptimizedLoss(clamp=wrong)  # type: ignore[arg-type]
    with pytest.raises(LossaryError, match=r"class_frequency must have shape \(2,\), got \(3,\)"):
        gumbel_optimized(torch.zeros(1, 2), torch.tensor([0]), class_frequency=torch.ones(3))
