"""Metrics of all pairs against loops and printed numbers, and in blocks against the whole."""

import math

import pytest
import torch
from torch import Tensor

from lossary._fast.pairs import rule as pairs_rule
from lossary.errors import LossaryError
from lossary.metrics import epsilon_opis, icnn_score, mean_average_precision_at_r, opis, recall_at_k, utilization


def batch(n: int = 40, classes: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(classes, (n,), generator=generator)
    labels[0] = 99
    return torch.randn(n, 6, generator=generator) + torch.nn.functional.one_hot(labels.clamp_max(5), 6), labels


@pytest.fixture(params=["one block", "many blocks"], autouse=True)
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "many blocks":
        monkeypatch.setattr(pairs_rule, "BLOCK", 1)
        monkeypatch.setattr(pairs_rule, "FEWEST_ANCHORS", 7)


def ranked(x: Tensor, i: int) -> list[int]:
    s = torch.nn.functional.cosine_similarity(x[i : i + 1], x)
    return sorted((j for j in range(len(x)) if j != i), key=lambda j: -float(s[j]))


@pytest.mark.parametrize("k", [1, 3, 100])
def test_recall_at_k_matches_loops(k: int) -> None:
    x, labels = batch()
    asking = [i for i in range(len(x)) if (labels == labels[i]).sum() > 1]
    hits = [any(labels[j] == labels[i] for j in ranked(x, i)[:k]) for i in asking]
    assert float(recall_at_k(x, labels, k)) == pytest.approx(sum(hits) / len(asking))


def test_mean_average_precision_at_r_matches_loops() -> None:
    x, labels = batch()
    found = []
    for i in range(len(x)):
        r = int((labels == labels[i]).sum()) - 1
        if not r:
            continue
        hit = [bool(labels[j] == labels[i]) for j in ranked(x, i)[:r]]
        found.append(sum(sum(hit[: k + 1]) / (k + 1) for k in range(r) if hit[k]) / r)
    assert float(mean_average_precision_at_r(x, labels)) == pytest.approx(sum(found) / len(found), abs=1e-6)


def test_retrieval_of_separated_classes_is_perfect_and_of_nobody_zero() -> None:
    x, labels = torch.eye(3).repeat(4, 1), torch.arange(3).repeat(4)
    assert float(recall_at_k(x, labels)) == float(mean_average_precision_at_r(x, labels)) == 1
    for empty in (x[:0], x[:1], x[:3]):
        assert float(recall_at_k(empty, labels[: len(empty)])) == 0
        assert float(mean_average_precision_at_r(empty, labels[: len(empty)])) == 0


def utilities(s: Tensor, labels: list[int], t: float) -> list[float]:
    found = []
    for c in sorted(set(labels)):
        if labels.count(c) < 2:
            continue
        pairs = [(i, j) for i in range(len(labels)) for j in range(i) if c in (labels[i], labels[j])]
        accept = [float(s[i, j]) > t for i, j in pairs if labels[i] == labels[j]]
        reject = [float(s[i, j]) <= t for i, j in pairs if labels[i] != labels[j]]
        a, r = sum(accept) / len(accept), sum(reject) / len(reject)
        found.append(2 * a * r / (a + r) if a + r else 0.0)
    return found


def test_opis_matches_loops_at_the_thresholds_of_the_accept_rates() -> None:
    x, labels = batch()
    unit = torch.nn.functional.normalize(x, dim=1)
    s, y = unit @ unit.T, labels.tolist()
    negative = torch.stack([s[i, j] for i in range(len(y)) for j in range(i) if y[i] != y[j]]).sort(descending=True).values
    ends = [float(negative[math.ceil(rate * len(negative)) - 1]) for rate in (0.3, 0.05)]
    spread, gap = [], []
    for t in torch.linspace(ends[0], ends[1], 5).tolist():
        u = torch.tensor(utilities(s, y, t))
        spread.append(float(u.var(correction=0)))
        gap.append(float(u.max() - u.min()))
    found = opis(x, labels, far_range=(0.05, 0.3), points=5)
    assert float(found) == pytest.approx(sum(spread) / 5, abs=2e-3)
    worst = epsilon_opis(x, labels, epsilon=0.0, far_range=(0.05, 0.3), points=5)
    assert float(worst) == pytest.approx(sum(gap) / 5, abs=2e-2)


def test_opis_of_classes_that_look_alike_is_zero() -> None:
    x = torch.eye(4).repeat_interleave(3, 0) + 0.1 * torch.eye(3).repeat(4, 1) @ torch.ones(3, 4)
    assert float(opis(x, torch.arange(4).repeat_interleave(3))) == pytest.approx(0, abs=1e-9)
    assert float(opis(x, torch.zeros(12, dtype=torch.int64))) == 0


def test_a_range_of_accept_rates_has_to_be_one() -> None:
    x, labels = batch()
    with pytest.raises(LossaryError, match="far_range must be two numbers with 0 < low <= high < 1"):
        opis(x, labels, far_range=(0.5, 0.1))


def test_utilization_is_the_mean_squared_distance_to_the_nearest() -> None:
    generator = torch.Generator().manual_seed(0)
    q, bank = torch.randn(50, 4, generator=generator), torch.randn(30, 4, generator=generator)
    expected = sum(min(float((a - b).square().sum()) for b in bank) for a in q) / 50
    assert float(utilization(q, bank)) == pytest.approx(expected, rel=1e-5)
    assert float(utilization(q, torch.cat([bank, q]))) == 0


def icnn_by_loops(x: Tensor, labels: list[int], k: int, retrieved: int) -> float:
    n, compact, apart, largest, share = len(x), [], [], 0.0, 0.0
    foreign_rows = []
    for i in range(n):
        d = sorted((float((x[i] - x[j]).norm()), labels[j] == labels[i]) for j in range(n) if j != i)
        nearest = min((each for each, same in d[:retrieved] if not same), default=math.inf)
        relative = [each / nearest for each, _ in d[:k]]
        relative = [each / max(1, *relative) for each in relative]
        alike = [r for r, (_, same) in zip(relative, d[:k], strict=True) if same]
        foreign = [each for each, same in d[:k] if not same]
        if alike:
            compact.append(sum(alike) / len(alike))
        if foreign:
            foreign_rows.append(foreign)
        share += len(alike) / k / n
    largest = max((each for row in foreign_rows for each in row), default=1.0)
    apart = [sum(row) / len(row) / largest for row in foreign_rows]
    lam = (1 - sum(compact) / max(1, len(compact)) + (sum(apart) / len(apart) if apart else 1)) / 2
    return (lam + share) / 2


@pytest.mark.parametrize(("k", "retrieved"), [(3, 4), (5, 12), (1, 1)])
def test_icnn_score_matches_loops(k: int, retrieved: int) -> None:
    x, labels = batch()
    expected = icnn_by_loops(x.double(), labels.tolist(), k, retrieved)
    assert float(icnn_score(x, labels, neighbors=k, retrieved=retrieved)) == pytest.approx(expected, abs=1e-4)


def test_icnn_score_of_tight_separated_classes_is_near_one() -> None:
    x = torch.tensor([[0.0], [0.01], [0.02], [100.0], [100.01], [100.02]])
    assert float(icnn_score(x, torch.tensor([0, 0, 0, 1, 1, 1]))) > 0.999
    assert float(icnn_score(x[:2], torch.tensor([0, 0]))) == 1
