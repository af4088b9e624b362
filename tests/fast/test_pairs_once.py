"""Each pair met once: the sums and gradients of the whole matrix."""

import pytest
import torch
from torch import Tensor

from lossary._fast.pairs import loops as pairs_loops
from lossary._fast.pairs import once
from lossary._fast.pairs import rule as pairs_rule
from lossary._fast.pairs.once import sums_over_pairs
from lossary._fast.pairs.rule import Kernel, Pairs

LABELS = {
    "unequal": [0] * 17 + [1] + [2] * 5 + [3, 4, 5] + [7] * 3,
    "one class": [4] * 29,
    "all different": list(range(29)),
    "two halves": [0, 1] * 14 + [1],
}


def row(s: Tensor, pairs: Pairs) -> tuple[Tensor, ...]:
    """What the compiled loop of the threshold-consistent margin gives, for s of float32 or float64."""
    low, high = pairs.positive & (s <= 0.3), pairs.negative & (s >= -0.1)
    near, far = (0.3 - s).masked_fill(~low, 0.0).sum(1), (s + 0.1).masked_fill(~high, 0.0).sum(1)
    return near, far, low.sum(1).to(s.dtype), high.sum(1).to(s.dtype)


KERNEL = Kernel(lambda: pairs_loops.threshold_consistent_margin, 4, (0.3, -0.1), symmetric=True)


def inputs(kind: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor(LABELS[kind])[torch.randperm(29, generator=generator)]
    x = torch.nn.functional.normalize(torch.randn(29, 6, generator=generator), dim=1)
    x[5], labels[5] = x[6], labels[6]
    return x, labels


def by_hand(x: Tensor, labels: Tensor, weights: tuple[float, float]) -> tuple[list[float], Tensor]:
    """Sums and gradient one ordered pair at a time, in float64."""
    rows = x.double().tolist()
    sums, gradient = [0.0] * 4, torch.zeros(x.shape, dtype=torch.float64)
    for i, a in enumerate(rows):
        for j, b in enumerate(rows):
            s = sum(p * q for p, q in zip(a, b, strict=True))
            if i == j:
                continue
            kind = int(labels[i] != labels[j])
            costs = s - (-0.1) if kind else 0.3 - s
            if costs >= 0:
                sums[kind] += costs
                sums[2 + kind] += 1
                slope = weights[kind] * (1 if kind else -1)
                gradient[i] += slope * x[j].double()
                gradient[j] += slope * x[i].double()
    return sums, gradient


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("tile", [1, 4, 13, 29, 64])
def test_sums_and_gradients_equal_ordered_pairs_by_hand(monkeypatch: pytest.MonkeyPatch, kind: str, tile: int) -> None:
    monkeypatch.setattr(pairs_rule, "SMALL", 0)
    monkeypatch.setattr(once, "TILE", tile)
    x, labels = inputs(kind)
    sums, gradient = by_hand(x, labels, (2.0, -3.0))
    leaf = x.clone().requires_grad_()
    found = sums_over_pairs(row, leaf, labels=labels, kernel=KERNEL)
    assert [each.requires_grad for each in found] == [True, True, False, False]
    torch.testing.assert_close(torch.stack(found), torch.tensor(sums))
    (slope,) = torch.autograd.grad(2 * found[0] - 3 * found[1], leaf)
    torch.testing.assert_close(slope.double(), gradient, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(torch.stack(sums_over_pairs(row, x, labels=labels, kernel=KERNEL)), torch.tensor(sums))


def test_one_sum_alone_has_its_own_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs_rule, "SMALL", 0)
    monkeypatch.setattr(once, "TILE", 8)
    x, labels = inputs("unequal")
    for place, weights in enumerate([(1.0, 0.0), (0.0, 1.0)]):
        leaf = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(sums_over_pairs(row, leaf, labels=labels, kernel=KERNEL)[place], leaf)
        torch.testing.assert_close(slope.double(), by_hand(x, labels, weights)[1], rtol=1e-4, atol=1e-4)


def test_only_the_tiles_from_the_diagonal_on_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs_rule, "SMALL", 0)
    monkeypatch.setattr(once, "TILE", 10)
    met: list[tuple[int, ...]] = []

    def loop(s: object, *rest: object) -> None:
        met.append(s.shape)  # type: ignore[attr-defined]
        pairs_loops.threshold_consistent_margin(s, *rest)

    x, labels = inputs("unequal")
    sums_over_pairs(row, x, labels=labels, kernel=KERNEL._replace(load=lambda: loop))
    assert met == [(10, 10), (10, 10), (10, 9), (10, 10), (10, 9), (9, 9)]


def test_what_is_not_symmetric_or_meets_other_items_takes_every_ordered_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs_rule, "SMALL", 0)

    def never(*_: object) -> None:
        raise AssertionError("each pair was met once")

    monkeypatch.setattr(once, "_sweep", never)
    x, labels = inputs("unequal")
    sums, gradient = by_hand(x, labels, (1.0, 0.0))
    leaf = x.clone().requires_grad_()
    lopsided = sums_over_pairs(row, leaf, labels=labels, kernel=KERNEL._replace(symmetric=False))
    own = torch.arange(29)
    apart = sums_over_pairs(row, leaf, x.clone(), labels=labels, item_labels=labels, own=own, kernel=KERNEL)
    double = sums_over_pairs(row, x.double(), labels=labels, kernel=KERNEL)
    for found in (lopsided, apart, double):
        torch.testing.assert_close(torch.stack(found).double(), torch.tensor(sums).double(), rtol=1e-5, atol=1e-5)
    (slope,) = torch.autograd.grad(lopsided[0], leaf)
    torch.testing.assert_close(slope.double(), gradient, rtol=1e-4, atol=1e-4)


def test_second_derivatives_and_side_by_side_runs_equal_the_whole_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    def loss(x: Tensor, labels: Tensor) -> Tensor:
        near, far, *_ = sums_over_pairs(row, x, labels=labels, kernel=KERNEL)
        return near.square() + far.square()

    x = torch.stack([inputs(kind)[0] for kind in LABELS])
    labels = torch.stack([inputs(kind)[1] for kind in LABELS])
    found = []
    for small in (1 << 16, 0):
        monkeypatch.setattr(pairs_rule, "SMALL", small)
        monkeypatch.setattr(once, "TILE", 8)
        leaf = x.clone().requires_grad_()
        side_by_side = torch.func.vmap(loss)(leaf, labels)
        (first,) = torch.autograd.grad(side_by_side.sum(), leaf)
        together = torch.func.vmap(torch.func.grad(loss))(x, labels)
        one = x[0].clone().requires_grad_()
        (slope,) = torch.autograd.grad(loss(one, labels[0]), one, create_graph=True)
        (second,) = torch.autograd.grad(slope.square().sum(), one)
        found.append((side_by_side.detach(), first, together, second))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-3)


def test_anchors_without_pairs_and_without_anybody_are_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs_rule, "SMALL", 0)
    for n in (0, 1):
        leaf = torch.ones(n, 3, requires_grad=True)
        found = sums_over_pairs(row, leaf, labels=torch.zeros(n, dtype=torch.long), kernel=KERNEL)
        assert torch.stack(found).tolist() == [0.0] * 4
        assert torch.autograd.grad(found[0] + found[1], leaf)[0].tolist() == [[0.0] * 3] * n


def test_what_is_not_a_number_reaches_the_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs_rule, "SMALL", 0)
    x, labels = inputs("all different")
    x[4] = torch.nan
    leaf = x.requires_grad_()
    found = sums_over_pairs(_contrastive_row, leaf, labels=labels, kernel=CONTRASTIVE)
    assert found[1].isnan()
    assert torch.autograd.grad(found[1], leaf)[0].isnan().any()


def _contrastive_row(s: Tensor, pairs: Pairs) -> tuple[Tensor, ...]:
    raise AssertionError("the compiled loop takes this")


CONTRASTIVE = Kernel(lambda: pairs_loops.contrastive, 4, (0.0, 1.0), symmetric=True)
