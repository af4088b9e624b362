"""Naive Bayes against logistic regression: the closed form against scikit-learn, and who needs fewer samples."""

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.naive_bayes import GaussianNB
from torch import Tensor

from lossary.errors import InvalidValueError
from lossary.experiments import LinearEvaluation, linear_evaluation
from lossary.experiments.linear_evaluation import _naive_bayes


def gaussians(dimension: int, samples: int, seed: int, distance: float = 1.5) -> tuple[Tensor, Tensor]:
    """Two classes with the identity as covariance and means +-distance / sqrt(D) in every coordinate."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.arange(samples) % 2
    noise = torch.randn(samples, dimension, generator=generator, dtype=torch.float64)
    return noise + distance / dimension**0.5 * (2 * target[:, None] - 1), target


def test_the_closed_form_is_a_gaussian_classifier_with_one_variance_for_all_classes() -> None:
    x, y = gaussians(6, 90, 0)
    y[:20] = 2
    test = gaussians(6, 200, 1)[0]
    classes = y.unique()
    values, labels, others = x.numpy(), y.numpy(), test.numpy()
    within = values - np.stack([values[labels == k].mean(0) for k in range(3)])[labels]
    reference = GaussianNB().fit(values, labels)
    reference.var_ = np.tile((within**2).mean(0), (3, 1))
    np.testing.assert_array_equal(_naive_bayes(x, y, classes, test, 0.0).numpy(), reference.predict(others))


def test_it_is_discriminant_analysis_where_features_do_not_correlate() -> None:
    x, y = gaussians(4, 64, 3)
    for k in (0, 1):  # make the features of each class exactly uncorrelated
        inside = x[y == k]
        centred = inside - inside.mean(0)
        q, _ = torch.linalg.qr(centred)
        x[y == k] = q * 5 + inside.mean(0)
    test = gaussians(4, 300, 4)[0]
    reference = LinearDiscriminantAnalysis(solver="lsqr").fit(x.numpy(), y.numpy())
    np.testing.assert_array_equal(_naive_bayes(x, y, y.unique(), test, 0.0).numpy(), reference.predict(test.numpy()))


@pytest.mark.parametrize("dimension", [20, 50])
def test_naive_bayes_needs_at_most_a_third_of_the_samples(dimension: int) -> None:
    train, test = gaussians(dimension, 2400, 5), gaussians(dimension, 4000, 6)
    sizes = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
    result = linear_evaluation(*train, *test, sizes=sizes, inverse_regularization=1e4)
    needed = result.samples_until(0.12)
    assert needed["naive_bayes"] is not None
    assert needed["logistic_regression"] is None or needed["naive_bayes"] <= needed["logistic_regression"] / 3


def test_features_that_do_not_vary_decide_nothing() -> None:
    train, test = gaussians(5, 200, 7), gaussians(5, 500, 8)
    constant = [(torch.cat([x, torch.ones(len(x), 2)], 1), y) for x, y in (train, test)]
    constant[1][0][:, 5:] = 1.1  # differs a little in the test samples
    plain = linear_evaluation(*train, *test, sizes=(50,), repeats=2)
    padded = linear_evaluation(*constant[0], *constant[1], sizes=(50,), repeats=2)
    torch.testing.assert_close(plain.naive_bayes, padded.naive_bayes)


def test_one_sample_of_each_class_is_the_nearest_one() -> None:
    x, y = torch.tensor([[0.0, 0.0], [4.0, 0.0]], dtype=torch.float64), torch.tensor([5, 9])
    test = torch.tensor([[1.0, 7.0], [3.0, -7.0]], dtype=torch.float64)
    assert y.unique()[_naive_bayes(x, y, y.unique(), test, 1e-2)].tolist() == [5, 9]
    assert linear_evaluation(x, y, test, torch.tensor([5, 9]), sizes=(1, 3), repeats=1).naive_bayes.tolist() == [[0.0], [0.0]]


def test_the_first_size_below_a_level_is_the_answer() -> None:
    result = LinearEvaluation((1, 2, 4), torch.tensor([[0.5], [0.2], [0.1]]), torch.tensor([[0.5], [0.4], [0.3]]))
    assert result.samples_until(0.25) == {"naive_bayes": 2, "logistic_regression": None}


def test_the_seed_decides_the_draws() -> None:
    train, test = gaussians(5, 100, 9), gaussians(5, 200, 10)
    first, again, other = (linear_evaluation(*train, *test, sizes=(2,), seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.naive_bayes, again.naive_bayes)
    assert torch.equal(first.logistic_regression, again.logistic_regression)
    assert not torch.equal(first.naive_bayes, other.naive_bayes)


def test_mistakes_are_named() -> None:
    x, y = gaussians(3, 10, 0)
    with pytest.raises(InvalidValueError, match="linear_evaluation: test_features must have 3 columns, got 2"):
        linear_evaluation(x, y, x[:, :2], y)
    with pytest.raises(InvalidValueError, match=r"sizes must be an integer >= 1, or a sequence of them, got \(0,\)"):
        linear_evaluation(x, y, x, y, sizes=(0,))
    with pytest.raises(InvalidValueError, match=r"sizes must be an integer >= 1, or a sequence of them, got \(1\.5,\)"):
        linear_evaluation(x, y, x, y, sizes=(1.5,))  # type: ignore[arg-type]
    assert linear_evaluation(x, y, x, y, sizes=4).sizes == (4,)
    with pytest.raises(InvalidValueError, match="linear_evaluation: target must have at least 2 classes, got 1"):
        linear_evaluation(x, torch.zeros_like(y), x, y)
