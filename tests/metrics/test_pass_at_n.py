"""Pass@N: against counting every choice of answers, and where naive formulas lose their digits."""

import itertools
import math
from fractions import Fraction

import pytest
import torch

from lossary.errors import InvalidTypeError, InvalidValueError
from lossary.metrics import pass_at_n, pass_at_n_from_counts


def test_it_is_the_chance_of_a_right_answer_among_all_outcomes() -> None:
    for p, n in ((0.3, 3), (0.8, 4), (0.0, 2), (1.0, 5)):
        chance = 0.0
        for outcome in itertools.product([True, False], repeat=n):
            if any(outcome):
                chance += math.prod(p if right else 1 - p for right in outcome)
        assert float(pass_at_n(torch.tensor([p], dtype=torch.float64), n)) == pytest.approx(chance, abs=1e-14)


def test_it_is_a_mean_over_problems_of_any_shape() -> None:
    prob = torch.tensor([[0.1, 0.9], [0.5, 0.25]])
    assert float(pass_at_n(prob, 1)) == pytest.approx(0.4375)
    assert float(pass_at_n(torch.zeros(0), 3)) == 0.0


@pytest.mark.parametrize("p", [1e-30, 1e-12, 1e-6, 0.3, 0.5, 0.7, 0.999999])
def test_small_and_large_probabilities_keep_their_digits(p: float) -> None:
    prob = torch.tensor([p])
    exact = 1 - (1 - Fraction(prob.item())) ** 16
    assert float(pass_at_n(prob, 16)) == pytest.approx(float(exact), rel=1e-5)


def test_the_gradient_is_finite_everywhere_and_that_of_the_formula() -> None:
    prob = torch.tensor([0.0, 1e-8, 0.3, 0.5, 0.8, 1.0], dtype=torch.float64, requires_grad=True)
    pass_at_n(prob, 16).backward()
    expected = [16 * (1 - p) ** 15 / 6 for p in prob.tolist()]
    torch.testing.assert_close(prob.grad, torch.tensor(expected, dtype=torch.float64))


def test_half_precision_is_computed_in_single() -> None:
    value = pass_at_n(torch.full((100_000,), 1e-4, dtype=torch.float16), 4096)
    assert value.dtype == torch.float32
    assert float(value) == pytest.approx(1 - (1 - float(torch.tensor(1e-4, dtype=torch.float16))) ** 4096, rel=1e-4)


def test_counts_are_judged_by_every_choice_of_answers() -> None:
    samples, n = 7, 3
    for correct in range(samples + 1):
        answers = [True] * correct + [False] * (samples - correct)
        choices = list(itertools.combinations(answers, n))
        expected = sum(any(choice) for choice in choices) / len(choices)
        assert float(pass_at_n_from_counts(torch.tensor([correct]), samples, n)) == pytest.approx(expected, abs=1e-15)


def test_counts_too_large_for_binomials() -> None:
    correct, samples, n = 3, 10**5, 1000
    exact = 1 - Fraction(math.comb(samples - correct, n), math.comb(samples, n))
    assert float(pass_at_n_from_counts(torch.tensor([correct]), samples, n)) == pytest.approx(float(exact), rel=1e-12)
    assert float(pass_at_n_from_counts(torch.tensor([samples - 5]), samples, n)) == 1.0


def test_the_estimate_from_counts_has_no_bias() -> None:
    p, samples, n = 0.2, 8, 4
    weights = [math.comb(samples, c) * p**c * (1 - p) ** (samples - c) for c in range(samples + 1)]
    counts = [float(pass_at_n_from_counts(torch.tensor([c]), samples, n)) for c in range(samples + 1)]
    plugged = [float(pass_at_n(torch.tensor([c / samples], dtype=torch.float64), n)) for c in range(samples + 1)]
    truth = 1 - (1 - p) ** n
    assert math.fsum(w * v for w, v in zip(weights, counts, strict=True)) == pytest.approx(truth, rel=1e-12)
    assert math.fsum(w * v for w, v in zip(weights, plugged, strict=True)) < truth - 0.01


def test_samples_may_differ_between_problems() -> None:
    both = pass_at_n_from_counts(torch.tensor([1, 2]), torch.tensor([4, 10]), 2)
    apart = [float(pass_at_n_from_counts(torch.tensor([1]), 4, 2)), float(pass_at_n_from_counts(torch.tensor([2]), 10, 2))]
    assert float(both) == pytest.approx(sum(apart) / 2)
    assert float(pass_at_n_from_counts(torch.zeros(0, dtype=torch.int64), 4, 2)) == 0.0


def test_mistakes_are_named() -> None:
    with pytest.raises(InvalidValueError, match="pass_at_n: n must be an integer >= 1, got 0"):
        pass_at_n(torch.ones(2), 0)
    with pytest.raises(InvalidTypeError, match=r"pass_at_n: prob must be floating point, got torch\.int64"):
        pass_at_n(torch.ones(2, dtype=torch.int64), 1)
    with pytest.raises(InvalidTypeError, match=r"pass_at_n_from_counts: correct must be integers, got torch\.float32"):
        pass_at_n_from_counts(torch.ones(2), 4, 1)
    for correct, samples, n in ((5, 4, 2), (-1, 4, 2), (1, 4, 5)):
        with pytest.raises(InvalidValueError, match="pass_at_n_from_counts: correct must be from 0 to samples, and samples at"):
            pass_at_n_from_counts(torch.tensor([correct]), samples, n)
    for wrong in (4.5, True, "4"):
        with pytest.raises(InvalidTypeError, match="pass_at_n_from_counts: samples must be an integer or a tensor of them, got"):
            pass_at_n_from_counts(torch.tensor([1]), wrong, 1)  # type: ignore[arg-type]


def test_small_integers_do_not_limit_how_many_were_sampled() -> None:
    assert float(pass_at_n_from_counts(torch.tensor([3], dtype=torch.uint8), 300, 2)) == pytest.approx(
        1 - math.comb(297, 2) / math.comb(300, 2)
    )
