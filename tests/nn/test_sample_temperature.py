"""Temperatures for each sample: it begins as the identity, can learn, and stays within its bounds."""

import pytest
import torch

from lossary.errors import InvalidTypeError, InvalidValueError
from lossary.nn import SampleTemperature, top_probabilities


def test_it_begins_as_the_identity() -> None:
    logits, features = torch.randn(7, 3), torch.rand(7, 12)
    torch.testing.assert_close(SampleTemperature(12)(logits, features), logits)


@torch.no_grad()
def test_matches_a_loop_and_its_bounds() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        calibrator = SampleTemperature(3, hidden=4, low=0.9, high=1.1).double()
        torch.nn.init.normal_(calibrator.outer.weight, std=4.0)
        features, logits = torch.rand(20, 3).double(), torch.randn(20, 5).double()
    scaled = calibrator(logits, features)
    reached = set()
    for n in range(20):
        inner = [max(float(calibrator.inner.weight[k] @ features[n] + calibrator.inner.bias[k]), 0.0) for k in range(4)]
        raw = sum(float(w) * h for w, h in zip(calibrator.outer.weight[0], inner, strict=True)) + float(calibrator.outer.bias)
        temperature = min(max(raw, 0.9), 1.1)
        reached.add(temperature)
        torch.testing.assert_close(scaled[n], logits[n] / temperature)
    assert {0.9, 1.1} < reached


def test_it_learns_from_its_start_which_samples_are_unsure() -> None:
    """Half of the samples are right by luck only, and a feature says which; their temperatures rise, the others do not."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unsure = torch.arange(400) % 2
        target = torch.where(unsure == 1, torch.randint(2, (400,)), torch.zeros(400, dtype=torch.int64))
        logits = torch.tensor([[3.0, 0.0]]).repeat(400, 1)
        calibrator = SampleTemperature(1)
    features = unsure[:, None].float()
    optimizer = torch.optim.Adam(calibrator.parameters(), lr=0.05)
    for _ in range(300):
        confidence = calibrator(logits, features).softmax(1)[:, 0]
        loss = (confidence - (target == 0).float()).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    temperature = calibrator.temperature(torch.tensor([[0.0], [1.0]]))
    confidence = torch.sigmoid(3 / temperature)
    assert confidence[1] < 0.6
    assert confidence[0] > 0.97


def test_features_are_the_largest_probabilities_of_each_view() -> None:
    views = [torch.randn(4, 6), torch.randn(4, 6), torch.randn(4, 6)]
    features = top_probabilities(views)
    assert features.shape == (4, 12)
    for n in range(4):
        expected = [p for view in views for p in sorted(view[n].softmax(0).tolist(), reverse=True)[:4]]
        assert features[n].tolist() == pytest.approx(expected)


def test_mistakes_are_named() -> None:
    calibrator = SampleTemperature(3)
    with pytest.raises(InvalidValueError, match=r"sample_temperature: features must have shape \(N, 3\), got \(2, 4\)"):
        calibrator(torch.zeros(2, 5), torch.zeros(2, 4))
    with pytest.raises(InvalidValueError, match=r"sample_temperature: logits must have shape \(2, 5\), got \(3, 5\)"):
        calibrator(torch.zeros(3, 5), torch.zeros(2, 3))
    with pytest.raises(InvalidValueError, match=r"sample_temperature: logits must have shape \(N, C\), got \(\)"):
        calibrator(torch.tensor(1.0), torch.zeros(2, 3))
    with pytest.raises(InvalidTypeError, match="sample_temperature: features must be floating point"):
        calibrator(torch.zeros(3, 5), torch.zeros(2, 3, dtype=torch.int64))
    with pytest.raises(
        InvalidValueError, match=r"sample_temperature: low and high must lie on both sides of 1, got 2\.0 and 10\.0"
    ):
        SampleTemperature(3, low=2.0)
    with pytest.raises(InvalidValueError, match="sample_temperature: num_features must be an integer >= 1, got 0"):
        SampleTemperature(0)
    with pytest.raises(InvalidValueError, match=r"top_probabilities: views must have shape \(N, C\) with C >= 4, got \(2, 3\)"):
        top_probabilities([torch.zeros(2, 3)])
    with pytest.raises(InvalidValueError, match="top_probabilities: views must hold at least one tensor, got none"):
        top_probabilities([])
    with pytest.raises(InvalidTypeError, match="top_probabilities: views must be a sequence of tensors, got Tensor"):
        top_probabilities(torch.zeros(2, 5))  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_features_of_half_precision_suit_a_calibrator_of_single(dtype: torch.dtype) -> None:
    view = torch.tensor([[2.0, 0.0, -2.0, -9.0]])
    features = top_probabilities([view.to(dtype)])
    torch.testing.assert_close(features, top_probabilities([view]))
    assert SampleTemperature(4)(view, features).dtype == torch.float32
