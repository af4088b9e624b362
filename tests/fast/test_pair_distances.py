"""Distances of pairs that are close, in every loss of distances: values and gradients held against differences in float64."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.losses.embedding import (
    test_batch_hard_triplet,
    test_generalized_lifted_structure,
    test_lifted_structure,
    test_margin,
    test_semi_hard_triplet,
    test_triplet,
)
from tests.losses.embedding.common import distances_of
from torch import Tensor

from lossary import functional as losses
from lossary._fast import dispatch
from lossary._fast.pairs import distances, once
from lossary._fast.pairs import rule as pairs_rule
from lossary._fast.pairs.distances import squared_distances

Loss = Callable[[Tensor, Tensor], Tensor]

# Each loss with the loop over pairs that its own test holds it against.
LOSSES: dict[str, tuple[Loss, Callable[..., Tensor]]] = {
    "batch_hard_triplet": (
        lambda x, y: losses.batch_hard_triplet(x, y, margin=0.3, reduction="none").sum(),
        lambda d, y: test_batch_hard_triplet.loop(d, y).sum(),
    ),
    "contrastive": (
        lambda x, y: losses.contrastive(x, y, positive_margin=0.0, negative_margin=0.9),
        lambda d, y: _contrastive(d, y),
    ),
    "generalized_lifted_structure": (
        lambda x, y: losses.generalized_lifted_structure(x, y, margin=0.2, reduction="sum"),
        lambda d, y: test_generalized_lifted_structure.loop(d, y).sum(),
    ),
    "lifted_structure": (
        lambda x, y: losses.lifted_structure(x, y, margin=0.2, reduction="sum"),
        lambda d, y: test_lifted_structure.total(d, y).sum(),
    ),
    "margin": (
        lambda x, y: losses.margin(x, y, test_margin.BETA.to(x.dtype), margin=0.3, reduction="sum"),
        lambda d, y: test_margin.total(d, y).sum(),
    ),
    "semi_hard_triplet": (
        lambda x, y: losses.semi_hard_triplet(x, y, margin=0.3, reduction="sum"),
        lambda d, y: test_semi_hard_triplet.total(d, y).sum(),
    ),
    "triplet": (
        lambda x, y: losses.triplet(x, y, margin=0.3, reduction="sum"),
        lambda d, y: test_triplet.total(d, y).sum(),
    ),
}


def _contrastive(d: list[list[Tensor]], labels: list[int]) -> Tensor:
    """With every distance that is not 0 in the mean of the positives."""
    n = len(labels)
    near = [d[i][j] for i in range(n) for j in range(n) if i != j and labels[i] == labels[j] and d[i][j] > 0]
    far = [0.9 - d[i][j] for i in range(n) for j in range(n) if labels[i] != labels[j] and d[i][j] < 0.9]
    return torch.stack(near).mean() + (torch.stack(far).mean() if far else 0.0)


TIED = ("batch_hard_triplet", "semi_hard_triplet")  # of two duplicates either is the hardest, and has the gradient


def collapsed(spread: float, centres: int, duplicates: bool) -> tuple[Tensor, Tensor]:
    """Float32 embeddings that lie by ``spread`` around a few centres, and duplicates of samples of their or another class."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.arange(28) % 4
    middle = torch.randn(centres, 6, generator=generator, dtype=torch.float64)[torch.arange(28) // 7 % centres]
    x = middle + spread * torch.randn(28, 6, generator=generator, dtype=torch.float64)
    if duplicates:
        x[5], x[9], x[10], x[20] = x[1], x[1], x[6], x[11]
    return x.float(), labels


def ways(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Every way in which a loss of pairs is computed, with its dtype."""
    monkeypatch.setattr(pairs_rule, "BLOCK", 1)
    monkeypatch.setattr(pairs_rule, "FEWEST_ANCHORS", 9)
    monkeypatch.setattr(once, "TILE", 9)
    for dtype in (torch.float64, torch.float32):
        for name, small, loops in (("whole", 1 << 16, True), ("blocks", 0, False), ("loop", 0, True)):
            monkeypatch.setattr(pairs_rule, "SMALL", small)
            monkeypatch.setattr(dispatch, "LOOPS", loops)
            yield name, dtype
    monkeypatch.setattr(distances, "_may_choose", lambda *_: False)  # as compiled, on an accelerator, or in blocks there
    for name, small in (("whole, products", 1 << 16), ("blocks, products", 0)):
        monkeypatch.setattr(pairs_rule, "SMALL", small)
        yield name, torch.float32


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("centres", [1, 4])
@pytest.mark.parametrize("spread", [1.0, 1e-2, 1e-3, 1e-4])
def test_values_and_gradients_equal_those_of_differences(
    monkeypatch: pytest.MonkeyPatch, name: str, centres: int, spread: float
) -> None:
    loss, loop = LOSSES[name]
    x, labels = collapsed(spread, centres, name not in TIED)
    leaf = x.double().requires_grad_()
    expected = loop(distances_of(leaf), labels.tolist())
    (true,) = torch.autograd.grad(expected, leaf)
    for way, dtype in ways(monkeypatch):
        leaf = x.to(dtype).requires_grad_()
        found = loss(leaf, labels)
        (gradient,) = torch.autograd.grad(found, leaf)
        # The directions themselves are rounded, which is an error of their distances of about eps, and of angles of eps / spread.
        off = 16 * torch.finfo(dtype).eps / spread
        assert float((found.detach().double() - expected.detach()).abs() / expected.detach()) < off, way
        assert float((gradient.double() - true).norm() / true.norm()) < off, way


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_duplicates_are_at_distance_0_and_have_no_gradient(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    x = torch.tensor([[0.3, -0.7, 0.2]], dtype=dtype).repeat(11, 1)
    for loss, _ in LOSSES.values():
        for way, _ in ways(monkeypatch):
            leaf = x.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(loss(leaf, torch.arange(11) // 3), leaf)
            assert gradient.abs().sum() == 0, way
    monkeypatch.undo()
    mixed = torch.tensor([[1.0, 0.0]] * 10 + [[0.0, 1.0]], dtype=dtype)
    for n in (1, 30):  # the same pairs in a small and in a large batch
        found = losses.contrastive(mixed.repeat(n, 1), torch.zeros(11 * n, dtype=torch.int64))
        torch.testing.assert_close(found, torch.tensor(2.0, dtype=dtype).sqrt())


def test_the_nearest_of_collapsed_embeddings_is_the_nearest() -> None:
    """Which pair is hardest comes from distances too: the case in which cosines take another one for nearly every anchor."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(16, dtype=torch.float64, generator=generator) + 1e-3 * torch.randn(
        200, 16, dtype=torch.float64, generator=generator
    )
    labels = torch.arange(200) // 4
    gradients = []
    for given in (x.float().double(), x.float()):
        leaf = given.clone().requires_grad_()
        losses.batch_hard_triplet(leaf, labels).backward()
        assert leaf.grad is not None
        gradients.append(leaf.grad.double().flatten())
    exact, single = gradients
    assert float(torch.nn.functional.cosine_similarity(exact, single, dim=0)) > 0.99  # a tie of float32 may go to the other one


@pytest.mark.parametrize("choose", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_squared_distances_of_rows_of_any_length(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, choose: bool) -> None:
    if not choose:
        monkeypatch.setattr(distances, "_may_choose", lambda *_: False)
    generator = torch.Generator().manual_seed(1)
    a = (torch.randn(40, 5, generator=generator) * torch.logspace(-3, 3, 40).unsqueeze(1)).to(dtype)
    b = torch.cat(
        [a[:30] * (1 + 1e-4 * torch.randn(30, 5, generator=generator, dtype=dtype)), torch.zeros(2, 5, dtype=dtype), a[30:]]
    )
    a[0] = 0.0
    exact = (a.double()[:, None] - b.double()).square().sum(2)
    torch.testing.assert_close(squared_distances(a, b).double(), exact, rtol=1e-4 if dtype == torch.float32 else 1e-6, atol=0.0)


def test_not_a_number_stays_one_and_nothing_gives_nothing() -> None:
    x = torch.tensor([[1.0, torch.nan], [0.0, 1.0]])
    assert squared_distances(x, x).isnan().tolist() == [[True, True], [True, False]]
    assert squared_distances(x[:0], x).shape == (0, 2)
    assert squared_distances(x, x[:0]).shape == (2, 0)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_gradients_can_be_differentiated_and_transformed() -> None:
    x = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_()
    y = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).requires_grad_()
    assert torch.autograd.gradcheck(squared_distances, (x, y))
    assert torch.autograd.gradgradcheck(squared_distances, (x, y))
    hessian = torch.func.hessian(lambda x: squared_distances(x, y).sum())(x.detach())
    torch.testing.assert_close(hessian.reshape(18, 18), 8 * torch.eye(18, dtype=torch.float64))


def test_close_pairs_need_no_room_for_all_their_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    """All 64 x 64 pairs are close, and their differences are made in chunks."""
    monkeypatch.setattr(distances, "CHUNK", 100)
    made: list[int] = []

    class Recorder(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            found = function(*args, **(kwargs or {}))
            if isinstance(found, Tensor):
                made.append(found.numel())
            return found

    x = torch.ones(64, 8) + 1e-3 * torch.randn(64, 8)
    with Recorder():
        found = squared_distances(x, x)
    assert max(made) <= 64 * 64
    torch.testing.assert_close(found, (x[:, None] - x).square().sum(2))


def test_what_is_nearly_alike_keeps_its_digits_in_losses_of_two_views() -> None:
    """2 - 2 cos of float32 rows at a distance of 1e-3 would have one digit."""
    generator = torch.Generator().manual_seed(4)
    a = torch.randn(300, 8, generator=generator)
    b = a + 1e-3 * torch.randn(300, 8, generator=generator)
    u, v = (torch.nn.functional.normalize(x.double(), dim=1) for x in (a, b))
    expected = (u - v).square().sum(1).mean()
    bias, scale, weight = torch.tensor(-10.0), torch.tensor(2.0), 1e9
    with_teacher = losses.univitar(a, a, scale, bias, a, b, distill_weight=weight) - losses.univitar(a, a, scale, bias)
    for found in (
        losses.byol(a, b),
        losses.cross_cosine_similarity(a, b, positive_threshold=2.0),
        losses.cross_cosine_similarity(a[:40], b[:40], positive_threshold=2.0) / (u - v)[:40].square().sum(1).mean() * expected,
        2 * with_teacher / weight,
    ):
        torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=0)
