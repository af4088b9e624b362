"""What is true of AMCL alone; the conformance suite does the rest."""

import math

import pytest
import torch
from torch import Tensor

from lossary import LossaryError
from lossary.losses import AMCLLoss
from lossary.losses.contrastive.amcl import amcl
from lossary.nn import MultiHeadProjector

GENERATOR = torch.Generator().manual_seed(0)
A, B = (torch.randn(5, 3, 4, generator=GENERATOR, dtype=torch.float64) for _ in range(2))
NOTHING = (None, None, None, None)


def dot(u: list[float], v: list[float]) -> float:
    return sum(x * y for x, y in zip(u, v, strict=True))


def by_hand(loss: AMCLLoss, a: Tensor, b: Tensor, low: float, high: float, beta: float, top_k: int) -> float:
    def phi(u: list[float]) -> list[float]:
        for name in ("first", "second"):
            weight, bias = getattr(loss, f"{name}_weight"), getattr(loss, f"{name}_bias")
            if weight is not None:
                u = [dot(w, u) + c for w, c in zip(weight.tolist(), bias.tolist(), strict=True)]
                u = [max(x, 0.0) for x in u] if name == "first" else u
        return u

    total, n, d = 0.0, len(a), a.shape[2]
    for c in range(a.shape[1]):
        rows = [[x / math.hypot(*row) for x in row] for row in torch.cat([a, b])[:, c].tolist()]
        for i, u in enumerate(rows):
            terms = {}
            for j, v in enumerate(rows):
                tau = low + (high - low) / (1 + math.exp(dot(phi(u), phi(v))))
                assert low <= tau <= high
                terms[j] = (dot(u, v), dot(u, v) / tau, d / 2 * math.log(tau) + 1 / tau)
            partner = (i + n) % (2 * n)
            others = sorted((terms[j] for j in range(2 * n) if j % n != i % n), reverse=True)[:top_k]
            total += -terms[partner][1] + beta * terms[partner][2]
            total += sum(one[1] - beta * one[2] for one in others) / len(others)
    return total / (2 * n)


@pytest.mark.parametrize("phi", ["mlp", "identity"])
@pytest.mark.parametrize(("beta", "top_k"), [(0.01, 1), (0.3, 3), (0.1, 8), (0.1, 1000)])
def test_matches_a_loop(phi: str, beta: float, top_k: int) -> None:
    loss = AMCLLoss(embedding_dim=4, beta=beta, top_k=top_k, phi=phi, min_temperature=0.1).double()  # type: ignore[arg-type]
    assert loss(A, B).item() == pytest.approx(by_hand(loss, A, B, 0.1, 2.0, beta, top_k))


def test_a_fixed_temperature_and_all_negatives_are_a_linear_contrast() -> None:
    loss = AMCLLoss(embedding_dim=4, top_k=8, min_temperature=0.1, max_temperature=0.9, beta=0.7).double()
    for weight in loss.parameters():
        torch.nn.init.zeros_(weight)  # every product of phi is 0, every temperature 0.5
    x = torch.nn.functional.normalize(torch.cat([A, B]), dim=2)
    s = torch.einsum("icd,jcd->cij", x, x)
    own = torch.arange(10) % 5
    negative = s[:, own[:, None] != own].reshape(3, 10, 8).mean(2)
    positive = s[:, torch.arange(10), torch.arange(10).roll(5)]
    torch.testing.assert_close(loss(A, B).detach(), ((negative - positive) / 0.5).sum(0).mean())


def test_the_order_of_heads_and_of_samples_does_not_matter() -> None:
    loss = AMCLLoss(embedding_dim=4).double()
    expected = loss(A, B)
    torch.testing.assert_close(loss(A[:, [2, 0, 1]], B[:, [2, 0, 1]]), expected)
    torch.testing.assert_close(loss(A[[3, 1, 4, 0, 2]], B[[3, 1, 4, 0, 2]]), expected)
    torch.testing.assert_close(loss(B, A), expected)


def test_one_head_may_come_without_its_dimension() -> None:
    loss = AMCLLoss(embedding_dim=4, num_heads=1, phi="identity")
    torch.testing.assert_close(loss(A[:, 0], B[:, 0]), loss(A[:, :1], B[:, :1]))
    with pytest.raises(LossaryError, match=r"^amcl: a must have shape \(5, 1, 4\) or \(5, 4\), got \(5, 3, 4\)"):
        loss(A, B)
    with pytest.raises(LossaryError, match=r"^amcl: a must have shape \(5, 3, 4\), got \(5, 4\)"):
        AMCLLoss(embedding_dim=4)(A[:, 0], B[:, 0])


def test_the_lowest_temperature_keeps_the_loss_finite() -> None:
    """The regularisation pulls the temperature of the nearest negatives to 0, where only the bound stops it."""
    loss = AMCLLoss(embedding_dim=4, num_heads=1)
    for name, weight in loss.named_parameters():
        torch.nn.init.eye_(weight) if "weight" in name else torch.nn.init.zeros_(weight)
    with torch.no_grad():
        loss.get_parameter("second_weight").mul_(1e4)  # products of 1e8: sigmoids of 0
    a = torch.ones(3, 4, requires_grad=True)
    value = loss(a, torch.ones(3, 4))
    assert value.isfinite()
    assert torch.autograd.grad(value, a)[0].isfinite().all()


def test_one_sample_has_no_negative_and_none_has_no_loss() -> None:
    a = A[:1].clone().requires_grad_()
    loss = amcl(a, B[:1], *NOTHING, beta=0.0)
    assert loss.item() < 0 or loss.item() > 0  # the positive pair alone
    assert torch.autograd.grad(loss, a)[0].isfinite().all()
    a = A[:0].clone().requires_grad_()
    loss = amcl(a, B[:0], *NOTHING)
    assert loss.item() == 0
    assert torch.autograd.grad(loss, a)[0].shape == (0, 3, 4)


def test_phi_learns_and_takes_what_the_projector_makes() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        projector, loss = MultiHeadProjector(6, 4), AMCLLoss(embedding_dim=4)
        x, y = torch.randn(2, 7, 6)
    loss(projector(x), projector(y)).backward()
    assert sorted(name for name, _ in loss.named_parameters()) == ["first_bias", "first_weight", "second_bias", "second_weight"]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in [*loss.parameters(), *projector.parameters()])


def test_many_samples_are_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(2)
    a, b = (torch.randn(160, 2, 24, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(2))
    blocks = amcl(a, b, *NOTHING, top_k=10)
    with monkeypatch.context() as patched:
        patched.setattr("lossary._fast.pairs.rule.SMALL", 1 << 40)
        whole = amcl(a, b, *NOTHING, top_k=10)
    torch.testing.assert_close(blocks, whole)
    torch.testing.assert_close(torch.autograd.grad(blocks, (a, b)), torch.autograd.grad(whole, (a, b)))


def test_phi_is_one_of_two() -> None:
    with pytest.raises(LossaryError, match=r"^amcl: phi must be 'mlp' or 'identity', got 'cnn'"):
        AMCLLoss(embedding_dim=4, phi="cnn")  # type: ignore[arg-type]
