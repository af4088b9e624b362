"""What is true of GroCo alone; the conformance suite does the rest."""

import math

import pytest
import torch
from torch import Tensor

from lossary import LossaryError
from lossary.losses import GroCoLoss
from lossary.losses.contrastive.groco import _mass_in, groco

GENERATOR = torch.Generator().manual_seed(0)
A, B, C = (torch.randn(8, 4, generator=GENERATOR, dtype=torch.float64) for _ in range(3))


def dense(values: Tensor, steepness: float) -> Tensor:
    """The matrix of the network for one anchor, as the product of one full matrix for each layer."""
    n = len(values)
    x = torch.eye(n, dtype=values.dtype)
    for layer in range(n):
        step = [[1.0 if i == j else 0.0 for j in range(n)] for i in range(n)]
        rows = list(torch.tensor(step, dtype=values.dtype).unbind())
        for i in range(layer % 2, n - 1, 2):
            alpha = torch.atan(steepness * (values[i + 1] - values[i])) / math.pi + 0.5
            one, other = rows[i], rows[i + 1]
            rows[i], rows[i + 1] = alpha * one + (1 - alpha) * other, (1 - alpha) * one + alpha * other
        mixing = torch.stack(rows)
        values = mixing @ values
        x = x @ mixing.T
    return x


def by_hand(views: list[Tensor], count: int, steepness: float, stop: bool = True) -> Tensor:
    unit = [torch.nn.functional.normalize(view) for view in views]
    costs = []
    for v, anchors in enumerate(unit):
        for i in range(len(anchors)):
            fixed = [u.detach() if stop else u for u in unit]
            negative = torch.stack([anchors[i] @ fixed[v][j] for j in range(len(anchors)) if j != i])
            negative = negative.sort(descending=True).values[:count].flip(0)
            positive = torch.stack([anchors[i] @ fixed[w][i] for w in range(len(unit)) if w != v]).sort().values
            x = dense(torch.cat([negative, positive]), steepness)
            wanted = torch.tensor([0.0] * len(negative) + [1.0] * len(positive), dtype=x.dtype)
            by_positive_ranks = torch.nn.functional.binary_cross_entropy(x[:, len(negative) :].sum(1), wanted)
            costs.append(by_positive_ranks)
    return torch.stack(costs).mean()


@pytest.mark.parametrize(("count", "steepness", "stop"), [(3, 1.0, True), (7, 5.0, True), (4, 2.0, False)])
def test_matches_a_network_of_matrices(count: int, steepness: float, stop: bool) -> None:
    ours, theirs = ([x.clone().requires_grad_() for x in (A, B, C)] for _ in range(2))
    loss = groco(*ours, num_negatives=count, steepness=steepness, stop_gradient=stop)
    expected = by_hand(theirs, count, steepness, stop)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, ours), torch.autograd.grad(expected, theirs))


@pytest.mark.parametrize("n", [1, 2, 5, 12])
def test_the_matrix_is_doubly_stochastic(n: int) -> None:
    values = torch.randn(n, 6, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    x = _mass_in(torch.eye(n, dtype=torch.float64), values, 3.0)  # (ranks, values, anchors)
    assert (x >= 0).all()
    torch.testing.assert_close(x.sum(0), torch.ones(n, 6, dtype=torch.float64))
    torch.testing.assert_close(x.sum(1), torch.ones(n, 6, dtype=torch.float64))


def test_a_steep_network_is_the_hard_order() -> None:
    values = torch.randn(9, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = _mass_in(torch.eye(9, dtype=torch.float64), values, 1e12)
    order = values.argsort(0)
    for anchor in range(6):
        torch.testing.assert_close(x[:, order[:, anchor], anchor], torch.eye(9, dtype=torch.float64), atol=1e-6, rtol=0)
    a = torch.eye(3, dtype=torch.float64)
    assert groco(a, a, steepness=1e12).item() == pytest.approx(0.0, abs=1e-9)
    wrong = groco(a, -a, steepness=1e12)  # the positive comes out first: it and one negative are on the wrong side
    assert 10 < wrong.item() <= 2 / 3 * 100


def test_equal_similarities_give_a_finite_loss_and_gradient() -> None:
    for size in (0.0, 1.0, 1e4):
        a = torch.full((6, 3), size, requires_grad=True)
        loss = groco(a, torch.ones(6, 3))
        assert loss.isfinite()
        assert torch.autograd.grad(loss, a)[0].isfinite().all()


def test_the_gradient_runs_through_anchors_alone() -> None:
    a, b = A.clone().requires_grad_(), B.clone().requires_grad_()
    (by_a,) = torch.autograd.grad(groco(a, b), a)
    # as an anchor, a sample sees no gradient of what it does as another one's negative: moving it along gives another derivative
    (whole,) = torch.autograd.grad(groco(a, b, stop_gradient=False), a)
    assert not torch.allclose(by_a, whole)


def test_there_are_no_more_negatives_than_other_samples() -> None:
    torch.testing.assert_close(groco(A, B, num_negatives=7), groco(A, B, num_negatives=1000))
    one = A[:1].clone().requires_grad_()
    loss = groco(one, B[:1])  # nothing to be ordered
    assert loss.item() == 0
    assert torch.equal(torch.autograd.grad(loss, one)[0], torch.zeros(1, 4, dtype=torch.float64))
    empty = torch.zeros(0, 4, requires_grad=True)
    loss = groco(empty, torch.zeros(0, 4))
    assert loss.item() == 0
    assert torch.autograd.grad(loss, empty)[0].shape == (0, 4)


def test_many_samples_are_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(2)
    a, b = (torch.randn(300, 24, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(2))
    for stop in (True, False):
        blocks = groco(a, b, stop_gradient=stop)
        with monkeypatch.context() as patched:
            patched.setattr("lossary._fast.pairs.rule.SMALL", 1 << 40)
            whole = groco(a, b, stop_gradient=stop)
        torch.testing.assert_close(blocks, whole)
        torch.testing.assert_close(torch.autograd.grad(blocks, (a, b)), torch.autograd.grad(whole, (a, b)))


def test_every_further_view_has_to_fit() -> None:
    with pytest.raises(LossaryError, match=r"^groco: more must have shape \(8, 4\), got \(7, 4\)"):
        GroCoLoss()(A, B, C[:7])
    with pytest.raises(LossaryError, match=r"^groco: num_negatives must be an integer >= 1, got 0"):
        GroCoLoss(num_negatives=0)
