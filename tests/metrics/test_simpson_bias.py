"""Simpson's bias: against a loop, the two losses that it is the difference of, and its limits."""

import pytest
import torch

from lossary.errors import InvalidValueError
from lossary.functional import sample_dice, set_dice
from lossary.metrics import simpson_bias


def logits_and_target(samples: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(samples)
    return torch.randn(samples, 4, generator=generator, dtype=torch.float64), torch.randint(4, (samples,), generator=generator)


@pytest.mark.parametrize(("smooth", "power"), [(1.0, 2.0), (0.5, 1.0), (0.0, 1.5)])
def test_matches_a_loop(smooth: float, power: float) -> None:
    logits, target = logits_and_target()
    p = logits.softmax(1).tolist()
    y = [[float(c == t) for c in range(4)] for t in target.tolist()]

    def score(both: float, size: float) -> float:
        return (2 * both + smooth) / (size + smooth)

    pairs = [(a, b) for row, labels in zip(p, y, strict=True) for a, b in zip(row, labels, strict=True)]
    of_samples = sum(score(a * b, a**power + b**power) for a, b in pairs) / len(pairs)
    of_all = 0.0
    for c in range(4):
        column = [(row[c], labels[c]) for row, labels in zip(p, y, strict=True)]
        of_all += score(sum(a * b for a, b in column), sum(a**power + b**power for a, b in column)) / 4
    assert float(simpson_bias(logits, target, smooth, power)) == pytest.approx(of_samples - of_all, abs=1e-12)


def test_it_is_the_difference_of_the_two_losses() -> None:
    logits, target = logits_and_target()
    expected = set_dice(logits, target) - sample_dice(logits, target)
    assert float(simpson_bias(logits, target)) == pytest.approx(float(expected), abs=1e-12)


@pytest.mark.parametrize("gap", [1.0, 45.0, 1e4])
def test_it_is_their_difference_without_smoothing_too(gap: float) -> None:
    logits, target = gap * torch.eye(3)[[0, 0, 1]], torch.tensor([0, 1, 1])  # the last class is absent
    expected = set_dice(logits, target, smooth=0.0) - sample_dice(logits, target, smooth=0.0)
    assert float(simpson_bias(logits, target, smooth=0.0)) == pytest.approx(float(expected), abs=1e-6)


def test_probabilities_are_labels_too() -> None:
    logits, target = logits_and_target()
    one_hot = torch.nn.functional.one_hot(target, 4).double()
    assert float(simpson_bias(logits, one_hot)) == pytest.approx(float(simpson_bias(logits, target)), abs=1e-12)


def test_one_sample_alone_has_none() -> None:
    assert float(simpson_bias(*logits_and_target(1))) == pytest.approx(0.0, abs=1e-12)


def test_a_rare_class_that_is_never_predicted_looks_fine_sample_by_sample() -> None:
    target = torch.tensor([0] * 99 + [1])
    never = torch.tensor([[20.0, -20.0]]).expand(100, 2)
    assert float(simpson_bias(never, target)) > 0.2
    perfect = torch.stack([20.0 - 40.0 * target, 40.0 * target - 20.0], 1)
    assert float(simpson_bias(perfect, target)) == pytest.approx(0.0, abs=1e-6)


def test_pixels_are_samples_and_ignored_ones_do_not_count() -> None:
    logits, target = logits_and_target()
    as_image = logits.view(3, 4, 4).movedim(-1, 1)
    assert float(simpson_bias(as_image, target.view(3, 4))) == pytest.approx(float(simpson_bias(logits, target)))
    target[5:] = -100
    assert float(simpson_bias(logits, target)) == pytest.approx(float(simpson_bias(logits[:5], target[:5])))
    assert float(simpson_bias(logits, torch.full_like(target, -100))) == 0.0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_extreme_outputs_have_a_bias_like_any(dtype: torch.dtype) -> None:
    wrong = torch.tensor([[-1e4, 1e4], [1e4, -1e4], [1e4, -1e4]], dtype=dtype)
    target = torch.tensor([0, 1, 1])
    assert float(simpson_bias(wrong, target)) == pytest.approx(0.5 - 0.25)  # each alone 1/2; together 1/4 for either class
    assert float(simpson_bias(wrong, target, smooth=0.0)) == 0.0


def test_mistakes_are_named() -> None:
    logits, target = logits_and_target()
    with pytest.raises(InvalidValueError, match=r"simpson_bias: power must be a finite number >= 1, got 0\.5"):
        simpson_bias(logits, target, power=0.5)
    with pytest.raises(InvalidValueError, match=r"simpson_bias: target must have shape \(12,\) or \(12, 4\), got \(11,\)"):
        simpson_bias(logits, target[1:])
