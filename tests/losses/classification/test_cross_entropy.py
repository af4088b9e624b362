"""What is true of cross-entropy alone; the conformance suite does the rest."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy as torch_cross_entropy

from lossary.losses.classification.cross_entropy import cross_entropy


def test_matches_a_loop_over_classes() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(16, 5, dtype=torch.float64, generator=generator)
    target = torch.randint(5, (16,), generator=generator)
    expected = [math.log(sum(map(math.exp, z))) - z[y] for z, y in zip(logits.tolist(), target.tolist(), strict=True)]
    torch.testing.assert_close(cross_entropy(logits, target, reduction="none"), logits.new_tensor(expected))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("soft", [False, True])
def test_has_the_values_of_torch(reduction: str, smoothing: float, weighted: bool, soft: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(6, 4, 3, generator=generator)
    target = torch.rand(6, 4, 3, generator=generator).softmax(1) if soft else torch.randint(4, (6, 3), generator=generator)
    if not soft:
        target[2, 1] = -100
    weight = torch.rand(4, generator=generator) if weighted else None
    ours = cross_entropy(logits, target, weight=weight, label_smoothing=smoothing, reduction=reduction)  # type: ignore[arg-type]
    torch.testing.assert_close(
        ours, torch_cross_entropy(logits, target, weight=weight, label_smoothing=smoothing, reduction=reduction)
    )


def test_nothing_to_average_over_is_zero_where_torch_has_nan() -> None:
    logits = torch.zeros(3, 4, requires_grad=True)
    loss = cross_entropy(logits, torch.full((3,), -100))
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_a_sum_that_does_not_fit_into_half_precision_is_finite() -> None:
    logits = torch.zeros(1, 2, 512, 512, dtype=torch.float16)
    loss = cross_entropy(logits, torch.zeros(1, 512, 512, dtype=torch.int64), reduction="sum")
    assert loss.item() == pytest.approx(512 * 512 * math.log(2), rel=1e-6)
