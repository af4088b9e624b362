"""Code-wise attention: against loops over labels and tokens, and what padding must not do."""

import math

import pytest
import torch
from torch import Tensor

from lossary.errors import InvalidTypeError, InvalidValueError
from lossary.nn import CodeWiseAttention


def head_and_hidden(dtype: torch.dtype = torch.float64) -> tuple[CodeWiseAttention, Tensor, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = CodeWiseAttention(6, 4).to(dtype)
        hidden = torch.randn(3, 5, 6).to(dtype)
    mask = torch.tensor([[True] * 5, [True, True, False, True, False], [True] + [False] * 4])
    return head, hidden, mask


@torch.no_grad()
def test_matches_loops() -> None:
    head, hidden, mask = head_and_hidden()
    logits, attention = head(hidden, mask)
    weights, biases = head.project.weight, head.project.bias
    assert weights.shape == (12, 6)
    for n in range(3):
        tokens = [s for s in range(5) if mask[n, s]]
        for c in range(4):
            scores = {}
            for s in tokens:
                inner = [math.tanh(float(w @ hidden[n, s] + b)) for w, b in zip(weights, biases, strict=True)]
                scores[s] = math.exp(sum(float(u) * v for u, v in zip(head.score.weight[c], inner, strict=True)))
            shares = {s: score / sum(scores.values()) for s, score in scores.items()}
            pooled = [sum(share * float(hidden[n, s, d]) for s, share in shares.items()) for d in range(6)]
            logit = sum(float(w) * h for w, h in zip(head.weight[c], pooled, strict=True)) + float(head.bias[c])
            assert float(logits[n, c]) == pytest.approx(logit, abs=1e-12)
            for s in range(5):
                assert float(attention[n, c, s]) == pytest.approx(shares.get(s, 0.0), abs=1e-12)


def test_padding_cannot_be_seen_whatever_it_holds() -> None:
    head, hidden, mask = head_and_hidden()
    expected, _ = head(hidden, mask)
    for rubbish in (1e30, math.inf, math.nan):
        spoilt = hidden.masked_fill(~mask.unsqueeze(2), rubbish).requires_grad_()
        logits, attention = head(spoilt, mask)
        torch.testing.assert_close(logits, expected)
        assert (attention.transpose(1, 2)[~mask] == 0).all()
        gradients = torch.autograd.grad(logits.sum(), [spoilt, *head.parameters()])
        assert (gradients[0][~mask] == 0).all()
        assert all(gradient.isfinite().all() for gradient in gradients)


def test_a_sequence_of_padding_alone_gives_the_biases() -> None:
    head, hidden, mask = head_and_hidden()
    mask[1] = False
    logits, attention = head(hidden, mask)
    torch.testing.assert_close(logits[1], head.bias)
    assert (attention[1] == 0).all()
    logits.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())


def test_without_a_mask_every_token_counts() -> None:
    head, hidden, mask = head_and_hidden()
    torch.testing.assert_close(head(hidden), head(hidden, torch.ones_like(mask)))
    _, attention = head(hidden)
    torch.testing.assert_close(attention.sum(2), torch.ones(3, 4, dtype=torch.float64))


def test_each_label_has_its_own_last_layer() -> None:
    head, hidden, _ = head_and_hidden()
    logits, _ = head(hidden)
    logits[:, 2].sum().backward()
    assert head.weight.grad is not None
    assert head.weight.grad[[0, 1, 3]].abs().sum() == 0
    assert head.weight.grad[2].abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_with_a_mask(dtype: torch.dtype) -> None:
    head, hidden, mask = head_and_hidden()
    expected, _ = head(hidden, mask)
    logits, attention = head.to(dtype)(hidden.to(dtype), mask)
    torch.testing.assert_close(logits.double(), expected, atol=0.03, rtol=0.03)
    assert attention.isfinite().all()


def test_it_learns_to_look_for_each_labels_token() -> None:
    """Label c is on where token c occurs anywhere: only an attention of its own can tell all of them."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        tokens = torch.randint(16, (400, 12))
        target = (tokens.unsqueeze(2) == torch.arange(3)).any(1).float()
        table = torch.randn(16, 16)
        head = CodeWiseAttention(16, 3)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.02)
    for _ in range(250):
        logits, _ = head(table[tokens])
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    logits, attention = head(table[tokens])
    assert ((logits > 0) == target.bool()).float().mean() > 0.97
    found = (attention * (tokens.unsqueeze(1) == torch.arange(3).view(1, 3, 1))).sum(2)
    assert found[target.bool()].mean() > 0.8  # the attention says where it is


def test_it_compiles_whole_and_batches() -> None:
    head, hidden, mask = head_and_hidden()
    compiled = torch.compile(head, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(hidden, mask), head(hidden, mask))


def test_mistakes_are_named() -> None:
    head, hidden, mask = head_and_hidden()
    with pytest.raises(InvalidValueError, match=r"code_wise_attention: hidden must have shape \(N, S, 6\), got \(3, 5, 4\)"):
        head(hidden[..., :4])
    with pytest.raises(InvalidTypeError, match=r"mask must be bool, True for tokens that count, got torch\.int64"):
        head(hidden, mask.long())
    with pytest.raises(InvalidValueError, match=r"code_wise_attention: mask must have shape \(3, 5\), got \(3, 4\)"):
        head(hidden, mask[:, 1:])
    with pytest.raises(InvalidValueError, match="code_wise_attention: num_labels must be an integer >= 1, got 0"):
        CodeWiseAttention(4, 0)
