"""No metric depends on the order of the rows, ties are worth their average over orders, and NaN gives NaN.

The embeddings are small integers, so that duplicates and equal cosines are common. The oracles compare cosines exactly, as
fractions, and go through every order that agrees with them.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import lossary
from lossary import metrics

Rows = tuple[Tensor, ...]
few = settings(max_examples=12, deadline=None, derandomize=True, database=None)


def retrieval(rows: Tensor, labels: Tensor) -> Rows:
    return rows, labels


def lists(rows: Tensor, labels: Tensor) -> Rows:
    """Scores and relevance (items, lists): the items are what is permuted."""
    return rows, (labels[:, None] + torch.arange(rows.shape[1])) % 3


def share(rows: Tensor, labels: Tensor) -> Rows:
    return (rows.mean(1) + 2) / 4, labels % 2


def turned(metric: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    return lambda scores, relevance: metric(scores.T, relevance.T, **options)


CASES: dict[str, list[tuple[Callable[[Tensor, Tensor], Rows], Callable[..., Any]]]] = {
    "black_box_cross_entropy": [(lambda x, y: (x[:, 0].long(), y), metrics.black_box_cross_entropy)],
    "black_box_quadratic": [(lambda x, y: (x[:, 0].long(), y), metrics.black_box_quadratic)],
    "epsilon_opis": [(retrieval, lambda x, y: metrics.epsilon_opis(x, y, far_range=(0.1, 0.5), points=7))],
    "hardness_weights": [(lambda x, y: (x, x.roll(1, 1)), lambda a, b: metrics.hardness_weights(a, b, 0.5).view(-1).sort().values)],
    "icnn_score": [
        (retrieval, lambda x, y, k=k: metrics.icnn_score(x, y, neighbors=k, retrieved=2 * k - 1)) for k in (1, 2, 3)
    ],
    "mean_average_precision_at_r": [(retrieval, metrics.mean_average_precision_at_r)],
    "mean_reciprocal_rank": [(lists, turned(metrics.mean_reciprocal_rank, k=k)) for k in (1, 3, None)],
    "ndcg_at_k": [(lists, turned(metrics.ndcg_at_k, k=k)) for k in (1, 3, None)],
    "opis": [(retrieval, lambda x, y: metrics.opis(x, y, far_range=(0.1, 0.5), points=7))],
    "pass_at_n": [(lambda x, y: share(x, y)[:1], lambda p: metrics.pass_at_n(p, 3))],
    "pass_at_n_from_counts": [(lambda x, y: (y, y + 3), lambda c, s: metrics.pass_at_n_from_counts(c, s, 2))],
    "recall_at_k": [(retrieval, lambda x, y, k=k: metrics.recall_at_k(x, y, k)) for k in (1, 3, 50)],
    "reliability_curve": [(share, lambda f, y: metrics.reliability_curve(f, y, resamples=2).error)],
    "simpson_bias": [(retrieval, metrics.simpson_bias)],
    "smooth_ece": [(share, metrics.smooth_ece)],
    "smooth_ece_from_logits": [(retrieval, metrics.smooth_ece_from_logits)],
    "tolerance": [(retrieval, metrics.tolerance)],
    "uniformity": [(lambda x, y: (x,), metrics.uniformity)],
    "utilization": [(lambda x, y: (x, x.roll(1, 1) / 2), metrics.utilization)],
}  # fmt: skip
EVERY = [pytest.param(make, metric, id=f"{name}-{i}") for name, each in CASES.items() for i, (make, metric) in enumerate(each)]


@st.composite
def batches(draw: st.DrawFn, most: int = 12) -> tuple[Tensor, Tensor]:
    """Rows (N, 3) of small integers, some of them duplicates, and three classes (N,), each of which has two rows."""
    number = st.integers(-2, 2)
    pool = draw(st.lists(st.tuples(number, number, number).filter(any), min_size=1, max_size=4))
    rows = draw(st.lists(st.sampled_from(pool), min_size=6, max_size=most))
    labels = [0, 0, 1, 1, 2, 2, *(draw(st.integers(0, 2)) for _ in rows[6:])]
    return torch.tensor(rows, dtype=torch.float32), torch.tensor(labels)


def test_every_metric_is_here() -> None:
    assert set(CASES) == set(lossary.units("diagnostic"))


@pytest.mark.parametrize(("make", "metric"), EVERY)
@few
@given(batches(), st.randoms(use_true_random=False))
def test_rows_in_another_order_give_the_same_value(
    make: Callable[..., Rows], metric: Callable[..., Any], batch: tuple[Tensor, Tensor], random: Any
) -> None:
    given_rows = make(*batch)
    order = list(range(len(given_rows[0])))
    random.shuffle(order)
    expected = torch.as_tensor(metric(*given_rows)).double()
    found = torch.as_tensor(metric(*(rows[order] for rows in given_rows))).double()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(("make", "metric"), EVERY)
def test_nan_gives_nan(make: Callable[..., Rows], metric: Callable[..., Any]) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = make(torch.randn(8, 3, generator=generator).clamp(-2, 2), torch.arange(8) % 3)
    for i, each in enumerate(rows):
        if each.is_floating_point():
            spoiled = each.clone()
            spoiled[3 % len(each)] = math.nan
            value = torch.as_tensor(metric(*rows[:i], spoiled, *rows[i + 1 :]))
            assert value.isnan().any(), i
            assert value.numel() > 1 or value.isnan()


def orders(keys: list[Any]) -> Iterator[tuple[int, ...]]:
    """All orders of positions that agree with keys, largest first."""
    groups = [[i for i, key in enumerate(keys) if key == value] for value in sorted(set(keys), reverse=True)]
    for each in itertools.product(*(itertools.permutations(group) for group in groups)):
        yield tuple(itertools.chain(*each))


def cosine(a: list[int], b: list[int]) -> Fraction:
    """The cosine times its magnitude, which has the order of the cosine and is a fraction."""
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return Fraction(dot * abs(dot), sum(x * x for x in a) * sum(y * y for y in b))


def over_orders(x: Tensor, labels: Tensor, score: Callable[[list[bool], int], float]) -> float:
    """The mean over samples of the mean over orders of a score of hits and R."""
    rows, y, found = x.long().tolist(), labels.tolist(), []
    for i in range(len(y)):
        others = [j for j in range(len(y)) if j != i]
        each = [
            score([y[others[j]] == y[i] for j in order], y.count(y[i]) - 1)
            for order in orders([cosine(rows[i], rows[j]) for j in others])
        ]
        found.append(sum(each) / len(each))
    return sum(found) / len(found)


def any_hit(k: int, hit: list[bool], r: int) -> float:
    return float(any(hit[:k]))


@few
@given(batches(most=7))
def test_retrieval_is_the_average_over_all_orders(batch: tuple[Tensor, Tensor]) -> None:
    for dtype in (torch.float32, torch.float64):
        x = batch[0].to(dtype)
        for k in (1, 2, 4):
            expected = over_orders(x, batch[1], partial(any_hit, k))
            assert float(metrics.recall_at_k(x, batch[1], k)) == pytest.approx(expected, abs=1e-6)

        def precision(hit: list[bool], r: int) -> float:
            return sum(sum(hit[:k]) / k for k in range(1, r + 1) if hit[k - 1]) / r

        expected = over_orders(x, batch[1], precision)
        assert float(metrics.mean_average_precision_at_r(x, batch[1])) == pytest.approx(expected, abs=1e-6)


@few
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=6), st.integers(1, 6))
def test_ranking_is_the_average_over_all_orders(items: list[tuple[int, int]], k: int) -> None:
    scores, grades = [s for s, _ in items], [g for _, g in items]
    best = sum((2**g - 1) / math.log2(i + 2) for i, g in enumerate(sorted(grades, reverse=True)[:k]))
    gains, ranks = [], []
    for order in orders(scores):
        ranked = [grades[i] for i in order][:k]
        gains.append(sum((2**g - 1) / math.log2(i + 2) for i, g in enumerate(ranked)))
        ranks.append(next((1 / (i + 1) for i, g in enumerate(ranked) if g), 0.0))
    given_lists = torch.tensor([scores]).double(), torch.tensor([grades])
    expected = sum(gains) / len(gains) / best if best else 0.0
    assert float(metrics.ndcg_at_k(*given_lists, k)) == pytest.approx(expected)
    assert float(metrics.mean_reciprocal_rank(*given_lists, k)) == pytest.approx(sum(ranks) / len(ranks))


def test_of_a_collapsed_model_the_neighbours_are_drawn_at_random() -> None:
    labels = torch.arange(10).repeat_interleave(100)
    missed = math.prod((900 - j) / (999 - j) for j in range(10))
    for x in (torch.ones(1000, 64), torch.full((1000, 37), 0.3), torch.full((1000, 37), 0.3, dtype=torch.float16)):
        assert float(metrics.recall_at_k(x, labels, 10)) == pytest.approx(1 - missed, abs=1e-5)
        expected = sum((1 + (p - 1) * 98 / 998) / p for p in range(1, 100)) / 999
        assert float(metrics.mean_average_precision_at_r(x, labels)) == pytest.approx(expected, abs=1e-6)


def test_duplicates_tie_whatever_path_a_matrix_product_takes_through_them() -> None:
    generator = torch.Generator().manual_seed(0)
    once = torch.randn(7, 129, generator=generator)
    for copies in (2, 5, 33):
        x, labels = once.repeat(copies, 1), torch.arange(copies).repeat_interleave(7) % 2
        order = torch.randperm(len(x), generator=generator)
        for k in (1, 3):
            assert float(metrics.recall_at_k(x[order], labels[order], k)) == pytest.approx(
                float(metrics.recall_at_k(x, labels, k)), abs=1e-6
            )


def test_classes_at_the_top_together_share_the_answer() -> None:
    logits, target = torch.zeros(300, 3), torch.arange(300) % 3
    assert float(metrics.smooth_ece_from_logits(logits, target)) == pytest.approx(0.0, abs=1e-4)
    assert float(metrics.smooth_ece_from_logits(logits, target * 0)) == pytest.approx(0.0, abs=1e-4)


def test_negative_relevance_is_padding() -> None:
    scores = torch.tensor([[3.0, 2.0, 1.0]])
    for metric in (metrics.ndcg_at_k, metrics.mean_reciprocal_rank):
        short = metric(scores[:, 1:], torch.tensor([[0, 1]]))
        assert float(metric(scores, torch.tensor([[-1, 0, 1]]))) == pytest.approx(float(short))
        assert metric(scores, torch.tensor([[math.nan, 0.0, 1.0]])).isnan()
