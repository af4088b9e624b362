"""Heavy-tailed classes: the labels, the exact dynamics of a case that can be solved, and who fits rare classes."""

import math

import pytest
import torch
from torch import Tensor

from lossary.errors import InvalidValueError, UnknownNameError
from lossary.experiments import heavy_tailed_imbalance, heavy_tailed_labels
from lossary.experiments.heavy_tailed_imbalance import OPTIMIZERS, _course


@pytest.mark.parametrize("m", [1, 2, 5, 7])
def test_every_block_has_as_many_samples(m: int) -> None:
    labels = heavy_tailed_labels(m)
    counts = labels.bincount().tolist()
    assert len(labels) == m * 2**m
    assert counts == [2 ** (m - i) for i in range(m) for _ in range(2**i)]
    assert len(counts) == 2**m - 1


def one_hot_case() -> tuple[Tensor, Tensor]:
    """Inputs one-hot in the class: every class is alone with its weights."""
    labels = heavy_tailed_labels(3)
    return torch.nn.functional.one_hot(labels).float(), labels


def test_sign_descent_fits_all_frequencies_alike_and_exactly() -> None:
    inputs, labels = one_hot_case()
    course = _course(OPTIMIZERS["sign"][0], 0.02, inputs, labels, 60)
    for step in range(61):
        expected = math.log(1 + 6 * math.exp(-2 * 0.02 * step))
        for losses in (course.total, course.frequent, course.rare):
            assert float(losses[step]) == pytest.approx(expected, rel=1e-4)


def test_gradient_descent_follows_the_frequency_exactly() -> None:
    """The gap of class c grows by lr f_c (1 - p_c) C / (C - 1) in each step."""
    inputs, labels = one_hot_case()
    counts = labels.bincount().tolist()
    classes, samples, lr = len(counts), len(labels), 0.7
    gaps = [0.0] * classes
    course = _course(OPTIMIZERS["gradient_descent"][0], lr, inputs, labels, 200)
    for step in range(201):
        losses = [math.log(1 + (classes - 1) * math.exp(-gap)) for gap in gaps]
        for part, chosen in (
            (course.total, counts),
            (course.frequent, [n if n > 4 else 0 for n in counts]),
            (course.rare, [n if n <= 4 else 0 for n in counts]),
        ):
            expected = sum(n * loss for n, loss in zip(chosen, losses, strict=True)) / sum(chosen)
            assert float(part[step]) == pytest.approx(expected, rel=1e-4)
        gaps = [
            gap + lr * n / samples * (1 - math.exp(-loss)) * classes / (classes - 1)
            for gap, n, loss in zip(gaps, counts, losses, strict=True)
        ]


def test_gradient_descent_ends_at_one_over_its_budget() -> None:
    """For many steps T the loss of class c is about 1 / (f_c lr T)."""
    inputs, labels = one_hot_case()
    course = _course(OPTIMIZERS["gradient_descent"][0], 5.0, inputs, labels, 4000)
    frequency = 8 / len(labels)
    assert float(course.frequent[-1]) == pytest.approx(1 / (frequency * 5.0 * 4000), rel=0.35)
    assert float(course.frequent[-1] / course.frequent[2000]) == pytest.approx(0.5, rel=0.05)


def test_adam_and_sign_descent_fit_rare_classes_and_gradient_descent_does_not() -> None:
    rates = {"gradient_descent": [0.1], "adam": [0.03], "sign": [0.001]}  # each near its best
    courses = heavy_tailed_imbalance(7, tuple(rates), learning_rates=rates)
    assert float(courses["gradient_descent"].total[0]) == pytest.approx(math.log(127), rel=1e-5)
    assert float(courses["gradient_descent"].rare[-1]) > 4.0
    assert float(courses["gradient_descent"].frequent[-1]) < 3.5
    assert float(courses["adam"].rare[-1]) < 0.6
    assert float(courses["sign"].rare[-1]) < 0.6
    assert float(courses["adam"].total[-1]) < 0.2 * float(courses["gradient_descent"].total[-1])
    assert {name: course.learning_rate for name, course in courses.items()} == {name: rate[0] for name, rate in rates.items()}


def test_the_best_step_size_is_taken_and_the_seed_decides_the_inputs() -> None:
    best = heavy_tailed_imbalance(3, ["sign"], 20, learning_rates={"sign": [1e-6, 0.003, 100.0]})["sign"]
    assert best.learning_rate == 0.003
    other = heavy_tailed_imbalance(3, ["sign"], 20, seed=1, learning_rates={"sign": [0.003]})["sign"]
    assert not torch.equal(best.total[1:], other.total[1:])
    again = heavy_tailed_imbalance(3, ["sign"], 20, learning_rates={"sign": [0.003]})["sign"]
    assert torch.equal(best.total, again.total)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_lowers_the_loss_at_its_own_rates(name: str) -> None:
    course = heavy_tailed_imbalance(3, [name], 30)[name]
    assert float(course.total[-1]) < float(course.total[0])
    assert course.learning_rate in OPTIMIZERS[name][1]


def test_mistakes_are_named() -> None:
    with pytest.raises(UnknownNameError, match="heavy_tailed_imbalance: there is no optimizer named 'adm'; did you mean 'adam'"):
        heavy_tailed_imbalance(2, ["adm"])
    with pytest.raises(InvalidValueError, match="heavy_tailed_labels: m must be an integer >= 1, got 0"):
        heavy_tailed_labels(0)
    for wrong in ([], [0.1, -1.0], 0.1):
        with pytest.raises(InvalidValueError, match=r"learning_rates must be one or more numbers > 0 .* for 'adam'"):
            heavy_tailed_imbalance(2, ["adam"], learning_rates={"adam": wrong})  # type: ignore[dict-item]
