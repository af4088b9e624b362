"""AR2's retriever: the two terms, and where they pull."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from lossary.errors import InvalidTypeError
from lossary.losses.ranking import AR2RetrieverLoss


def drawn() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(4, 6, generator=generator), 2 * torch.randn(4, 6, generator=generator)


def test_distillation_alone_is_cross_entropy_with_the_rankers_softmax() -> None:
    scores, ranker = drawn()
    expected = cross_entropy(scores, (ranker / 2).softmax(1), reduction="none")
    value = AR2RetrieverLoss(adversarial_weight=0.0, ranker_temperature=2.0, reduction="none")(scores, ranker)
    torch.testing.assert_close(value, expected)


def test_matches_a_loop() -> None:
    scores, ranker = drawn()
    expected = []
    for s, r in zip(scores.tolist(), ranker.tolist(), strict=True):
        total = sum(math.exp(v) for v in s)
        log_p = [v - math.log(total) for v in s]
        opinion = [math.exp(v) / sum(math.exp(w) for w in r) for v in r]
        adversarial = sum(math.log(1 / (1 + math.exp(v - r[0]))) * p for v, p in zip(r, log_p, strict=True))
        expected.append(0.3 * adversarial - 0.7 * sum(q * p for q, p in zip(opinion, log_p, strict=True)))
    value = AR2RetrieverLoss(adversarial_weight=0.3, reduction="none")(scores, ranker)
    torch.testing.assert_close(value, torch.tensor(expected))
    torch.testing.assert_close(AR2RetrieverLoss(adversarial_weight=0.3)(scores, ranker), torch.tensor(expected).mean())


def test_the_adversary_moves_to_what_the_ranker_puts_above_the_positive() -> None:
    scores = torch.zeros(1, 3, requires_grad=True)
    AR2RetrieverLoss(adversarial_weight=1.0)(scores, torch.tensor([[0.0, 3.0, -3.0]])).backward()
    assert scores.grad is not None
    assert scores.grad[0, 1] < 0 < scores.grad[0, 2]


def test_the_reward_of_the_positive_is_log_one_half() -> None:
    value = AR2RetrieverLoss(adversarial_weight=1.0)(torch.tensor([[0.7, 0.7]]), torch.tensor([[50.0, 50.0]]))
    assert float(value) == pytest.approx(2 * math.log(0.5) * math.log(0.5))


def test_improbable_passages_keep_their_gradient() -> None:
    scores = torch.tensor([[0.0, -100.0]], requires_grad=True)
    AR2RetrieverLoss(adversarial_weight=0.0)(scores, torch.tensor([[0.0, 100.0]])).backward()
    torch.testing.assert_close(scores.grad, torch.tensor([[1.0, -1.0]]))


def test_the_ranker_gets_no_gradient_and_masked_candidates_are_absent() -> None:
    scores, ranker = drawn()
    mask = torch.ones_like(scores, dtype=torch.bool)
    mask[:, 3], mask[2, 0] = False, False
    ranker = ranker.requires_grad_()
    value = AR2RetrieverLoss()(scores.masked_fill(~mask, torch.inf).requires_grad_(), ranker, mask)
    value.backward()
    assert ranker.grad is None
    kept = [0, 1, 2, 4, 5]
    torch.testing.assert_close(value, AR2RetrieverLoss()(scores[[0, 1, 3]][:, kept], ranker[[0, 1, 3]][:, kept]))


def test_refusals() -> None:
    with pytest.raises(InvalidTypeError, match=r"ar2_retriever: ranker_scores must be floating point, got torch\.int64"):
        AR2RetrieverLoss()(torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.long))
