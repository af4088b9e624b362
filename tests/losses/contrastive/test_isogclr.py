"""What is true of iSogCLR alone; the conformance suite does the rest."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from lossary import LossaryError
from lossary.losses import ISogCLRLoss
from lossary.losses.contrastive.isogclr import isogclr

GENERATOR = torch.Generator().manual_seed(0)
A, B = (torch.randn(5, 3, generator=GENERATOR, dtype=torch.float64) for _ in range(2))
INDEX = torch.tensor([3, 0, 7, 6, 2])
LOG_S = torch.randn(8, generator=GENERATOR, dtype=torch.float64)
U = torch.randn(8, generator=GENERATOR, dtype=torch.float64)
TAU = torch.rand(8, generator=GENERATOR, dtype=torch.float64) * 0.5 + 0.2
SEEN = torch.tensor([True, False, True, True, False, True, False, True])
SETTINGS: dict[str, Any] = {"gamma": 0.6, "rho": 0.4, "temperature_lr": 0.1, "temperature_momentum": 0.7, "min_temperature": 0.1}


def cosine(u: Tensor, v: Tensor) -> float:
    return float((u @ v) / (u.norm() * v.norm()))


def test_matches_a_loop() -> None:
    views, n = [A, B], 5
    loss, (log_s, u, tau) = isogclr(A, B, INDEX, LOG_S, U, TAU, SEEN, **SETTINGS)
    total = 0.0
    for i in range(n):
        k = int(INDEX[i])
        stored, temperature = math.exp(LOG_S[k]), float(TAU[k])
        estimates, slopes = [], []
        for view in range(2):
            sims = [cosine(views[view][i], other[j]) for other in views for j in range(n) if j != i]
            g = sum(math.exp(s / temperature) for s in sims) / len(sims)
            estimate = 0.4 * stored + 0.6 * g if SEEN[k] else g
            w = [math.exp(s / temperature) / estimate for s in sims]
            total += sum(x * s for x, s in zip(w, sims, strict=True)) / len(sims) - cosine(A[i], B[i])
            estimates.append(estimate)
            slopes.append(math.log(estimate) + 0.4 - sum(x * s for x, s in zip(w, sims, strict=True)) / len(sims) / temperature)
        momentum = 0.3 * float(U[k]) + 0.7 * max(-3.0, min(3.0, sum(slopes) / 2))
        assert log_s[i].item() == pytest.approx(math.log(sum(estimates) / 2))
        assert u[i].item() == pytest.approx(momentum)
        assert tau[i].item() == pytest.approx(max(0.1, min(1.0, temperature - 0.1 * momentum)))
    assert loss.item() == pytest.approx(total / n)


def test_without_memory_the_gradient_is_that_of_the_worst_case() -> None:
    """With gamma = 1: of tau log mean exp((s_j - s_+) / tau), summed over both views."""
    a, b, c, d = (x.clone().requires_grad_() for x in (A, B, A, B))
    loss, _ = isogclr(a, b, INDEX, LOG_S, U, TAU, SEEN, gamma=1.0)
    x = normalize(torch.cat([c, d]))
    s, own = x @ x.T, torch.arange(10) % 5
    tau = TAU[INDEX].repeat(2)
    gap = s - s[torch.arange(10), torch.arange(10).roll(5)][:, None]
    worst = tau * ((gap / tau[:, None]).masked_fill(own[:, None] == own, -torch.inf).logsumexp(1) - math.log(8))
    torch.testing.assert_close(torch.autograd.grad(loss, (a, b)), torch.autograd.grad(worst.sum() / 5, (c, d)), atol=1e-14, rtol=0)


def test_the_temperature_settles_where_the_divergence_is_rho() -> None:
    loss = ISogCLRLoss(num_samples=5, gamma=1.0, rho=0.3, temperature_lr=0.02, init_temperature=0.4, min_temperature=0.01).double()
    for _ in range(1000):
        loss(A, A + 0.05 * B, torch.arange(5))
    x = normalize(torch.cat([A, A + 0.05 * B]))
    own = torch.arange(10) % 5
    inside = 0
    for i in range(5):
        tau = float(loss.temperature[i])
        divergences = []
        for row in (i, i + 5):
            p = (x[row] @ x.T)[own != i].div(tau).softmax(0)
            divergences.append(float((p * (p * 8).log()).sum()))
        if 0.011 < tau < 0.999:
            inside += 1
            assert sum(divergences) / 2 == pytest.approx(0.3, abs=1e-3)
    assert inside >= 3


def test_the_memory_is_written_in_training_only_and_travels() -> None:
    loss = ISogCLRLoss(num_samples=8)
    loss.eval()
    before = loss(A, B, INDEX)
    assert not loss.seen.any()
    loss.train()
    assert loss(A, B, INDEX) == before
    assert loss.seen.nonzero().flatten().tolist() == [0, 2, 3, 6, 7]
    untouched = torch.tensor([1, 4, 5])
    assert (loss.temperature[untouched] == torch.tensor(0.07)).all()
    assert (loss.temperature[INDEX] != 0.07).all()
    again = ISogCLRLoss(num_samples=8)
    again.load_state_dict(loss.state_dict())
    assert again(A, B, INDEX) == loss(A, B, INDEX)


def test_the_last_visit_of_a_sample_that_comes_twice_is_kept() -> None:
    loss = ISogCLRLoss(num_samples=8)
    index = torch.tensor([3, 0, 3, 6, 2])
    _, (log_s, _, _) = isogclr(A, B, index, loss.log_s, loss.u, loss.temperature, loss.seen)
    loss(A, B, index)
    assert loss.log_s[3].item() == pytest.approx(log_s[2].item())


def test_tiny_temperatures_are_finite() -> None:
    loss = ISogCLRLoss(num_samples=5, init_temperature=0.005, min_temperature=0.001, rho=1.5)
    a = torch.ones(5, 3).add(0.001 * A.float()).requires_grad_()  # cosines of 1: exponentials of 200
    for _ in range(3):
        value = loss(a, torch.ones(5, 3), torch.arange(5))
        assert value.isfinite()
        assert torch.autograd.grad(value, a)[0].isfinite().all()
    assert all(buffer.isfinite().all() for buffer in (loss.log_s, loss.u, loss.temperature))


def test_one_sample_alone_has_no_negatives_and_leaves_no_memory() -> None:
    loss = ISogCLRLoss(num_samples=5)
    a = A[:1].clone().requires_grad_()
    value = loss(a, B[:1], torch.tensor([2]))
    assert value.item() == pytest.approx(-2 * cosine(A[0], B[0]))
    assert torch.autograd.grad(value, a)[0].isfinite().all()
    assert not loss.seen.any()


def test_many_samples_are_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(2)
    a, b = (torch.randn(400, 6, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(2))
    state = [torch.randn(400, generator=generator, dtype=torch.float64).mul(0.1).add(x) for x in (1.0, 0.0, 0.5)]
    state.append(torch.rand(400, generator=generator) < 0.5)
    blocks, new = isogclr(a, b, torch.arange(400), *state)
    with monkeypatch.context() as patched:
        patched.setattr("lossary._fast.pairs.rule.SMALL", 1 << 40)
        whole, other = isogclr(a, b, torch.arange(400), *state)
    torch.testing.assert_close(blocks, whole)
    torch.testing.assert_close(new, other)
    torch.testing.assert_close(torch.autograd.grad(blocks, (a, b)), torch.autograd.grad(whole, (a, b)))


def test_refuses_places_that_do_not_fit() -> None:
    with pytest.raises(LossaryError, match=r"^isogclr: index must have shape \(5,\), got \(4,\)"):
        ISogCLRLoss(num_samples=8)(A, B, INDEX[:4])
    with pytest.raises(LossaryError, match=r"^isogclr: gamma must be a number above 0 and up to 1, got 0"):
        ISogCLRLoss(num_samples=8, gamma=0.0)
