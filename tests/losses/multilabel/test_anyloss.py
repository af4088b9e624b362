"""What is true of AnyLoss alone; the conformance suite does the rest."""

import math
from typing import get_args

import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score, fbeta_score, recall_score

from lossary.losses.multilabel.anyloss import Metric, anyloss

METRICS = get_args(get_args(Metric)[0])


def metric_of(name: str, tp: float, fp: float, fn: float, tn: float, beta: float) -> float:
    if name == "accuracy":
        return (tp + tn) / (tp + fp + fn + tn)
    if name == "f_beta":
        return (1 + beta**2) * tp / ((1 + beta**2) * tp + beta**2 * fn + fp)
    rates = tp / (tp + fn), tn / (tn + fp)
    return math.sqrt(rates[0] * rates[1]) if name == "g_mean" else sum(rates) / 2


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("beta", [1.0, 2.0])
def test_matches_a_loop(metric: str, beta: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 0.3 * torch.randn(30, dtype=torch.float64, generator=generator)
    target = torch.randint(2, (30,), generator=generator)
    tp = fp = fn = tn = 0.0
    for z, y in zip(logits.tolist(), target.tolist(), strict=True):
        h = 1 / (1 + math.exp(-20 * (1 / (1 + math.exp(-z)) - 0.5)))
        tp, fn, fp, tn = tp + y * h, fn + y * (1 - h), fp + (1 - y) * h, tn + (1 - y) * (1 - h)
    value = anyloss(logits, target, metric=metric, beta=beta, amplification=20.0)  # type: ignore[arg-type]
    assert value.item() == pytest.approx(1 - metric_of(metric, tp, fp, fn, tn, beta), abs=1e-11)


@pytest.mark.parametrize("shape", [(60,), (12, 5)])
def test_a_huge_amplification_gives_the_metric_of_decisions(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(1)
    logits, target = torch.randn(shape, dtype=torch.float64, generator=generator), torch.randint(2, shape, generator=generator)
    predicted, truth = (logits > 0).flatten().numpy(), target.flatten().bool().numpy()
    recalls = recall_score(truth, predicted, average=None)
    expected = {
        "accuracy": accuracy_score(truth, predicted),
        "f_beta": fbeta_score(truth, predicted, beta=0.5),
        "balanced_accuracy": balanced_accuracy_score(truth, predicted),
        "g_mean": math.sqrt(recalls[0] * recalls[1]),
    }
    for metric in METRICS:
        value = anyloss(logits, target, metric=metric, beta=0.5, amplification=1e8)
        assert value.item() == pytest.approx(1 - expected[metric], abs=1e-9)


@pytest.mark.parametrize("metric", METRICS)
def test_lies_between_0_and_1(metric: str) -> None:
    target = torch.tensor([1.0, 0.0, 1.0])
    for sign, expected in ((1, 0.0), (-1, 1.0)):
        value = anyloss(sign * (target - 0.5) * 2e4, target, metric=metric).item()  # type: ignore[arg-type]
        assert 0 <= value <= 1
        assert value == pytest.approx(expected, abs=2e-6)


def test_a_small_amplification_makes_every_decision_one_half() -> None:
    logits, target = torch.tensor([3.0, -2.0, 0.5], dtype=torch.float64), torch.tensor([1, 0, 0])
    assert anyloss(logits, target, amplification=1e-9).item() == pytest.approx(1 - 2 * 0.5 / (2 * 0.5 + 0.5 + 1.0))


def test_the_slope_of_a_decision_at_the_boundary_is_a_quarter_of_the_amplification() -> None:
    logits = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(anyloss(logits, torch.ones(1), metric="accuracy"), logits)
    assert gradient.item() == pytest.approx(-73 / 4 / 4)  # 18.25 with respect to the probability


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_a_batch_of_one_class_still_teaches(metric: str, label: float) -> None:
    logits = torch.tensor([0.1, -0.1, 0.05], dtype=torch.float64, requires_grad=True)
    loss = anyloss(logits, torch.full((3,), label), metric=metric)  # type: ignore[arg-type]
    (gradient,) = torch.autograd.grad(loss, logits)
    assert 0 < loss.item() < 1
    assert (gradient * (1 if label else -1) < -0.1).all()


def test_without_positives_the_score_is_the_share_of_negatives_that_are_right() -> None:
    logits = torch.tensor([5.0, -5.0, -5.0, -5.0], dtype=torch.float64)
    for metric in METRICS:
        assert anyloss(logits, torch.zeros(4), metric=metric).item() == pytest.approx(1 / 4, abs=1e-6)


@pytest.mark.parametrize("metric", METRICS)
def test_the_gradient_is_the_derivative(metric: str) -> None:
    logits = 0.1 * torch.randn(6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    target = torch.tensor([1, 0, 0, 1, 0, 0])
    assert torch.autograd.gradcheck(lambda z: anyloss(z, target, metric=metric), logits.requires_grad_())  # type: ignore[arg-type]


def test_the_geometric_mean_has_a_finite_slope_where_every_positive_is_wrong() -> None:
    for size in (1.0, 20.0, 1e4):
        logits = torch.tensor([-size, -size, -size], requires_grad=True)
        (gradient,) = torch.autograd.grad(anyloss(logits, torch.tensor([1.0, 0.0, 0.0]), metric="g_mean"), logits)
        assert gradient.isfinite().all()
        assert gradient[0] <= 0


@pytest.mark.parametrize("metric", METRICS)
def test_what_is_ignored_may_be_anything(metric: str) -> None:
    target = torch.tensor([1.0, 0.0, -100.0, -100.0])
    logits = torch.tensor([0.1, 0.2, math.nan, math.inf], requires_grad=True)
    loss = anyloss(logits, target, metric=metric)  # type: ignore[arg-type]
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == pytest.approx(anyloss(logits[:2], target[:2], metric=metric).item())  # type: ignore[arg-type]
    assert gradient[:2].isfinite().all()
    assert gradient[2:].tolist() == [0.0, 0.0]


def test_the_root_has_a_finite_slope_whatever_is_added_under_it() -> None:
    logits = torch.tensor([-50.0, -50.0], requires_grad=True)
    loss = anyloss(logits, torch.tensor([1.0, 0.0]), metric="g_mean", amplification=1e4, eps=1e-60)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == pytest.approx(1.0)
    assert gradient.isfinite().all()
