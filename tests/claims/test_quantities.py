"""Quantities against loops and by hand."""

import numpy as np
import pytest

from lossary.claims import accuracy_on, binned_error, f1, geometric_mean, pass_at, top_accuracy

TRUTH = np.array([0, 0, 1, 1, 2, 2])
SCORES = np.array([[0.7, 0.2, 0.1], [0.3, 0.5, 0.2], [0.2, 0.5, 0.3], [0.5, 0.4, 0.1], [0.1, 0.2, 0.7], [0.4, 0.35, 0.25]])


def test_top_and_class_accuracy() -> None:
    assert top_accuracy(1)(TRUTH, SCORES) == pytest.approx(3 / 6)
    assert top_accuracy(2)(TRUTH, SCORES) == pytest.approx(5 / 6)
    assert top_accuracy(3)(TRUTH, SCORES) == 1.0
    assert accuracy_on([0, 2])(TRUTH, SCORES) == pytest.approx(0.5)
    assert accuracy_on([1])(TRUTH[:3], SCORES[:3]) == 1.0


def test_pass_at_n_is_what_drawing_gives() -> None:
    generator = np.random.default_rng(0)
    right = SCORES[np.arange(6), TRUTH]
    drawn = (generator.random((20_000, 6, 4)) < right[:, None]).any(2).mean()
    assert pass_at(4)(TRUTH, SCORES) == pytest.approx(drawn, abs=0.005)
    assert pass_at(1)(TRUTH, SCORES) == pytest.approx(right.mean())
    assert pass_at(16)(np.array([0]), np.array([[1.0, 0.0]])) == pytest.approx(1.0)
    assert pass_at(16)(np.array([1]), np.array([[1.0, 0.0]])) == 0.0


def test_f1_and_the_geometric_mean_by_hand() -> None:
    assert f1(1)(TRUTH, SCORES) == pytest.approx(2 * 1 / (2 + 2))  # one of two found, two said
    assert f1(2)(TRUTH, SCORES) == pytest.approx(2 * 1 / (2 + 1))
    assert f1(2)(np.array([0, 0]), SCORES[:2]) == 0.0
    assert geometric_mean(TRUTH, SCORES) == pytest.approx(0.5)
    assert geometric_mean(TRUTH[:2], SCORES[1:3]) == 0.0


def test_the_binned_error_by_a_loop() -> None:
    generator = np.random.default_rng(1)
    confidence = np.append(generator.random(500), [0.0, 1.0])
    correct = (generator.random(502) < confidence**2).astype(float)
    expected = 0.0
    for low in np.arange(10) / 10:
        inside = (confidence >= low) & ((confidence < low + 0.1) | (low == 0.9))
        expected += abs(correct[inside].mean() - confidence[inside].mean()) * inside.mean()
    assert binned_error(confidence, correct, 10) == pytest.approx(expected)
