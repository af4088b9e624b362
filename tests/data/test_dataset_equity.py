"""Weights by how common an appearance is: limits, loops, and clusters that are there."""

import pytest
import torch
from sklearn.datasets import load_digits

from lossary.data import cluster_likelihood, dataset_equity_weight
from lossary.errors import InvalidTypeError, InvalidValueError


def test_matches_the_formula_in_numbers() -> None:
    likelihood = torch.linspace(0, 1, 11, dtype=torch.float64)
    for eta, gamma in ((1.0, 5.0), (0.3, 2.0), (0.0, 1.5)):
        expected = [(eta + (1 - p) ** gamma) / (eta + 1) for p in likelihood.tolist()]
        assert dataset_equity_weight(likelihood, eta, gamma).tolist() == pytest.approx(expected)


def test_limits() -> None:
    likelihood = torch.tensor([0.0, 0.05, 0.5, 1.0])
    assert dataset_equity_weight(likelihood, gamma=0.0).tolist() == [1.0] * 4  # 0 to the power of 0 included
    weights = dataset_equity_weight(likelihood, eta=0.5)
    assert float(weights[0]) == 1.0
    assert float(weights[-1]) == pytest.approx(0.5 / 1.5)
    assert (weights.diff() < 0).all()
    assert dataset_equity_weight(likelihood, eta=1e9).tolist() == pytest.approx([1.0] * 4)
    assert dataset_equity_weight(torch.tensor([1.0000001]), gamma=2.5).tolist() == [0.5]  # a share that rounding took above 1
    two = dataset_equity_weight(torch.tensor([0.05, 0.95]))
    assert float(two[0] / two[1]) == pytest.approx(1.8, abs=0.03)  # what the defaults make of 5 % against 95 %


def test_the_likelihood_is_the_share_of_the_cluster_and_noise_is_alone() -> None:
    labels = torch.tensor([3, 7, 3, -1, 3, -1, -2, 7])
    expected = [sum(a == b for b in labels.tolist()) / 8 if a >= 0 else 1 / 8 for a in labels.tolist()]
    assert cluster_likelihood(None, labels).tolist() == pytest.approx(expected)
    assert cluster_likelihood(None, labels[:0]).tolist() == []


def test_a_rare_appearance_is_found_among_images() -> None:
    """Digits of which one in twenty is inverted: the inverted ones are far less likely than the ordinary ones."""
    images = torch.as_tensor(load_digits().data[:600] / 16, dtype=torch.float32)
    inverted = torch.arange(600) % 20 == 0
    images[inverted] = 1 - images[inverted]
    likelihood = cluster_likelihood(images)
    assert float(likelihood[inverted].max()) <= 0.05
    assert float(likelihood[~inverted].median()) > 0.3
    weights = dataset_equity_weight(likelihood)
    assert float(weights[inverted].min()) > float(weights[~inverted].mean())


def test_a_given_radius_joins_what_is_nearer() -> None:
    points = torch.cat([torch.zeros(10, 1), torch.ones(5, 1), torch.tensor([[50.0]])]) + torch.arange(16)[:, None] * 1e-3
    assert cluster_likelihood(points, radius=0.1, min_samples=3).tolist() == pytest.approx([10 / 16] * 10 + [5 / 16] * 5 + [1 / 16])
    assert cluster_likelihood(points, radius=2.0, min_samples=3).tolist() == pytest.approx([15 / 16] * 15 + [1 / 16])
    assert cluster_likelihood(points[:3]).tolist() == pytest.approx([1 / 3] * 3)  # too few to be dense


def test_copies_of_one_sample_are_one_cluster() -> None:
    assert cluster_likelihood(torch.zeros(9, 2)).tolist() == [1.0] * 9


def test_mistakes_are_named() -> None:
    with pytest.raises(InvalidValueError, match="dataset_equity_weight: gamma must be a finite number >= 0, got -1"):
        dataset_equity_weight(torch.ones(2), 1.0, -1)
    with pytest.raises(InvalidTypeError, match="dataset_equity_weight: likelihood must be floating point"):
        dataset_equity_weight(torch.ones(2, dtype=torch.int64))
    with pytest.raises(InvalidValueError, match="cluster_likelihood: features or labels must be given, got neither"):
        cluster_likelihood(None)
    with pytest.raises(InvalidTypeError, match=r"cluster_likelihood: labels must be integers, got torch\.float32"):
        cluster_likelihood(None, torch.ones(2))
    with pytest.raises(InvalidValueError, match=r"cluster_likelihood: features must have shape \(N, D\), got \(3,\)"):
        cluster_likelihood(torch.ones(3))
