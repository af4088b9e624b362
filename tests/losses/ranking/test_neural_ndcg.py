"""NeuralNDCG against the unrolled definition, and its limits."""

import math

import pytest
import torch
from tests.losses.ranking._lists import actual, check_against, drawn, expected
from torch import Tensor
from torch.autograd import gradcheck

from lossary._fast.lists import rule as lists_rule
from lossary.losses.ranking import NeuralNDCGLoss
from lossary.metrics import ndcg_at_k


def unrolled(s: Tensor, y: Tensor, tau: float, rounds: int, tolerance: float, k: int | None, exponential: bool) -> Tensor:
    """The matrix of one list without padding, normalised again and again."""
    n = len(s)
    sums = [sum(((s[j] - s[m]).abs() for m in range(n)), start=s.new_zeros(())) for j in range(n)]
    rows = [torch.stack([((n + 1 - 2 * i) * s[j] - sums[j]) / tau for j in range(n)]).softmax(0) for i in range(1, n + 1)]
    P = torch.stack(rows)
    for _ in range(rounds):
        P = P / P.sum(0, keepdim=True)
        P = P / P.sum(1, keepdim=True)
        if (P.sum(0) - 1).abs().max() < tolerance and (P.sum(1) - 1).abs().max() < tolerance:
            break
    gain = [2 ** float(v) - 1 if exponential else float(v) for v in y]
    top = range(min(k or n, n))
    ideal = sum(sorted(gain, reverse=True)[i] / math.log2(i + 2) for i in top)
    gained = sum((P[i] @ P.new_tensor(gain) / math.log2(i + 2) for i in top), start=P.new_zeros(()))
    return -gained / ideal


@pytest.mark.parametrize(
    ("tau", "rounds", "k", "exponential", "scale", "ties"),
    [
        (1.0, 50, None, True, 1.0, False),
        (1.0, 50, 3, True, 0.3, True),
        (0.3, 7, None, False, 1.0, True),
        (5.0, 1, 1, True, 1.0, False),
        (1.0, 0, None, True, 0.3, False),
        (1.0, 50, 5, True, 0.0, True),
        (1.0, 50, None, True, 30.0, False),
    ],
)
def test_matches_the_unrolled_definition(
    tau: float, rounds: int, k: int | None, exponential: bool, scale: float, ties: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_list(s: Tensor, y: Tensor) -> Tensor:
        return unrolled(s, y, tau, rounds, 1e-4, k, exponential)

    loss = NeuralNDCGLoss(
        temperature=tau,
        k=k,
        exponential_gain=exponential,
        sinkhorn_iterations=rounds,
        sinkhorn_tolerance=1e-4,
        reduction="none",
    )
    check_against(loss, of_list, monkeypatch, scale=scale, ties=ties)


@pytest.mark.parametrize("scale", [1.0, 0.02])
def test_long_lists_by_compiled_loops(scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    scores, relevance, mask = drawn(2, 150, scale=scale)
    scores, found = scores.float(), []
    for dtype in (torch.float32, torch.float64):
        monkeypatch.setattr(lists_rule, "SMALL", 0)
        value, gradient = actual(NeuralNDCGLoss(reduction="none"), scores.to(dtype), relevance, mask)
        found.append((value.double(), gradient.double()))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-5, atol=1e-6)
    largest = float(found[1][1].abs().max())
    torch.testing.assert_close(found[0][1], found[1][1], rtol=0, atol=1e-4 * largest)


def test_low_temperatures_give_ndcg() -> None:
    scores, relevance, mask = drawn(5, 9)
    for k in (None, 4):
        value = NeuralNDCGLoss(temperature=1e-4, k=k)(scores, relevance, mask)
        torch.testing.assert_close(-value, ndcg_at_k(scores, relevance, k, mask))


def test_scaling_the_scores_is_scaling_one_over_the_temperature() -> None:
    scores, relevance, mask = drawn(5, 9)
    value = NeuralNDCGLoss(temperature=2.0)(3 * scores, relevance, mask)
    torch.testing.assert_close(value, NeuralNDCGLoss(temperature=2 / 3)(scores, relevance, mask))


def test_the_loss_is_minus_a_share_of_the_ideal() -> None:
    scores, relevance, mask = drawn(50, 9, seed=3)
    value = NeuralNDCGLoss(reduction="none")(scores, relevance, mask)
    assert ((value >= -1 - 1e-6) & (value < 0)).all()


def test_a_list_stops_its_rounds_by_itself() -> None:
    scores, relevance, mask = drawn(2, 9, scale=0.2)
    scores = torch.cat([scores[:1], 1e3 * scores[1:]])  # the second needs one round
    together = NeuralNDCGLoss(reduction="none", sinkhorn_tolerance=1e-2)(scores, relevance, mask)
    alone = [NeuralNDCGLoss(sinkhorn_tolerance=1e-2)(scores[i : i + 1], relevance[i : i + 1], mask[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(together, torch.stack(alone), rtol=1e-12, atol=1e-12)


def test_gradients_at_equal_scores_are_those_of_a_symmetric_point() -> None:
    scores = torch.zeros(1, 4, dtype=torch.float64, requires_grad=True)
    NeuralNDCGLoss()(scores, torch.tensor([[0, 3, 0, 0]])).backward()
    assert scores.grad is not None
    rest = scores.grad[0, [0, 2, 3]]
    torch.testing.assert_close(rest, rest[:1].expand(3))
    assert scores.grad[0, 1] < 0
    assert float(scores.grad.sum()) == pytest.approx(0.0, abs=1e-12)


def test_plain_gradients_are_right() -> None:
    scores, relevance, mask = drawn(2, 5)
    assert gradcheck(lambda s: NeuralNDCGLoss()(s, relevance, mask), scores.nan_to_num().requires_grad_())


def test_noise_is_averaged_and_comes_from_the_global_generator() -> None:
    scores, relevance, mask = drawn(3, 6)
    loss = NeuralNDCGLoss(stochastic=True, num_samples=4, beta=0.5)
    torch.manual_seed(0)
    first = loss(scores, relevance, mask)
    torch.manual_seed(0)
    assert loss(scores, relevance, mask) == first
    assert loss(scores, relevance, mask) != first
    # without noise what is left is the loss of the logarithms
    above = torch.where(mask, scores - scores.nan_to_num(torch.inf).amin(1, keepdim=True), torch.nan)
    calm = NeuralNDCGLoss(stochastic=True, num_samples=3, beta=0.0)(scores, relevance, mask)
    torch.testing.assert_close(calm, NeuralNDCGLoss()((above + 1e-10).log(), relevance, mask))


def test_noise_leaves_gradients_finite_at_equal_scores() -> None:
    scores = torch.zeros(2, 5, requires_grad=True)
    NeuralNDCGLoss(stochastic=True)(scores, torch.randint(1, 4, (2, 5))).backward()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()
    assert scores.grad.abs().max() < 10


def test_the_mean_over_draws_has_the_gradient_of_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, relevance, mask = drawn(3, 6)
    found = []
    for small in (0, 1 << 40):
        monkeypatch.setattr(lists_rule, "SMALL", small)
        torch.manual_seed(1)
        leaf = scores.nan_to_num().float().requires_grad_()
        NeuralNDCGLoss(stochastic=True, num_samples=5)(leaf, relevance, mask).backward()
        found.append(leaf.grad)
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)


def test_expected_is_an_oracle() -> None:
    """By hand: two items, and no rounds. The rows are softmax((s - |s0 - s1|)) and softmax((-s - |s0 - s1|))."""
    s = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    high = 1 / (1 + math.exp(-1.0))
    by_hand = -((1 - high) + high / math.log2(3))
    value = NeuralNDCGLoss(sinkhorn_iterations=0)(s, torch.tensor([[0, 1]]))
    assert float(value) == pytest.approx(by_hand)
    oracle = expected(lambda a, b: unrolled(a, b, 1.0, 0, 0.0, None, True), s, torch.tensor([[0, 1]]), s > -1)[0]
    assert float(oracle) == pytest.approx(by_hand)


def test_compiling_it_does_not_unroll_the_rounds() -> None:
    scores, relevance, mask = drawn(3, 6)
    one, other = (scores.nan_to_num().requires_grad_() for _ in range(2))
    torch.compile(NeuralNDCGLoss(), fullgraph=True, backend="aot_eager")(one, relevance, mask).backward()
    NeuralNDCGLoss()(other, relevance, mask).backward()
    torch.testing.assert_close(one.grad, other.grad)
