"""What is true of Video-ColBERT alone."""

import math

import pytest
import torch
from tests.losses.contrastive.common import agree, value_and_gradients, views
from torch import Tensor
from torch.nn.functional import logsigmoid, normalize

from lossary.errors import InvalidValueError
from lossary.losses import SigLIPLoss, VideoColBERTLoss
from lossary.losses.contrastive import video_colbert as module
from lossary.losses.contrastive.video_colbert import mean_max_sim


@pytest.fixture(params=["whole", "blocks"])
def size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "blocks":
        monkeypatch.setattr(module, "BLOCK", 50)  # similarities of tokens: two queries with two documents
    return str(request.param)


def tokens(n: int, length: int, seed: int, width: int = 6) -> Tensor:
    return torch.randn(n, length, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def masks(n: int, length: int, seed: int) -> Tensor:
    real = torch.rand(n, length, generator=torch.Generator().manual_seed(seed)) < 0.6
    real[:, 0] = True
    return real


def loop(q: Tensor, d: Tensor, q_mask: Tensor, d_mask: Tensor) -> Tensor:
    rows = []
    for n in range(len(q)):
        row = []
        for m in range(len(d)):
            s = normalize(q[n][q_mask[n]], dim=-1) @ normalize(d[m][d_mask[m]], dim=-1).T
            row.append(s.amax(1).mean())
        rows.append(torch.stack(row))
    return torch.stack(rows)


def test_scores_are_those_of_a_loop(size: str) -> None:
    q, d, q_mask, d_mask = tokens(5, 3, 0), tokens(4, 4, 1), masks(5, 3, 2), masks(4, 4, 3)
    inputs = q.requires_grad_(), d.requires_grad_()
    agree(
        value_and_gradients(lambda q, d: mean_max_sim(q, d, q_mask, d_mask).flatten(), inputs),
        value_and_gradients(lambda q, d: loop(q, d, q_mask, d_mask).flatten(), inputs),
    )


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shared", [True, False])
def test_is_two_sigmoid_losses(size: str, shared: bool, reduction: str) -> None:
    q, f, v = (tokens(5, length, seed).requires_grad_() for seed, length in enumerate((3, 2, 4)))
    q_mask, v_mask = masks(5, 3, 5), masks(5, 4, 6)
    loss = VideoColBERTLoss(init_bias=-1.0, shared_scale=shared, reduction=reduction).double()  # type: ignore[arg-type]
    with torch.no_grad():
        loss.log_scale += torch.tensor(0.1 if shared else [0.1, -0.3])

    def matrix_form(q: Tensor, f: Tensor, v: Tensor) -> Tensor:
        rows = torch.zeros(5, dtype=torch.float64)
        for place, (d, mask) in enumerate(((f, torch.ones(5, 2, dtype=torch.bool)), (v, v_mask))):
            scale, bias = (x if shared else x[place] for x in (loss.log_scale.exp(), loss.bias))
            rows = rows - logsigmoid((2 * torch.eye(5) - 1) * (scale * loop(q, d, q_mask, mask) + bias)).sum(1)
        return rows if reduction == "none" else rows.mean() if reduction == "mean" else rows.sum()

    own = list(loss.parameters())
    found = value_and_gradients(lambda q, f, v: loss(q, f, v, q_mask, None, v_mask), (q, f, v), own)
    agree(found, value_and_gradients(matrix_form, (q, f, v), own))


def test_one_token_each_is_siglip_twice(size: str) -> None:
    a, b = views(7)
    c = b.flip(1)
    loss, plain = VideoColBERTLoss().double(), SigLIPLoss().double()
    found = loss(a.unsqueeze(1), b.unsqueeze(1), c.unsqueeze(1))
    torch.testing.assert_close(found, plain(a, b) + plain(a, c))
    torch.testing.assert_close(loss(a.unsqueeze(1), b.unsqueeze(1)), plain(a, b))


def test_neither_the_order_of_tokens_nor_what_is_masked_matters() -> None:
    q, f, mask = tokens(4, 3, 0), tokens(4, 5, 1), masks(4, 5, 2)
    loss = VideoColBERTLoss()
    expected = loss(q, f, frame_mask=mask)
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(loss(q.flip(1), f[:, order], frame_mask=mask[:, order]), expected)
    changed = torch.where(mask.unsqueeze(2), f, 1e4)
    torch.testing.assert_close(loss(q, changed, frame_mask=mask), expected)


def test_backward_twice_and_second_derivatives(size: str) -> None:
    q, f = tokens(4, 2, 0).requires_grad_(), tokens(4, 3, 1)
    value = VideoColBERTLoss(init_bias=-1.0).double()(q, f)
    first, second = (torch.autograd.grad(value, q, retain_graph=True)[0] for _ in range(2))
    (differentiable,) = torch.autograd.grad(value, q, create_graph=True)
    torch.testing.assert_close(first, second)
    torch.testing.assert_close(first, differentiable)
    assert torch.autograd.grad(differentiable.square().sum(), q)[0].abs().max() > 0


def test_a_row_without_a_real_token_is_refused() -> None:
    q = tokens(2, 2, 0)
    with pytest.raises(InvalidValueError, match="video_colbert: frame_mask must have a real token in every row, got a row without"):
        VideoColBERTLoss()(q, q, frame_mask=torch.tensor([[True, True], [False, False]]))


def test_the_mean_over_tokens_does_not_grow_with_the_query() -> None:
    q, d = tokens(1, 2, 0), tokens(1, 3, 1)
    torch.testing.assert_close(mean_max_sim(torch.cat([q, q], 1), d), mean_max_sim(q, d))
    assert not math.isclose(float(mean_max_sim(q, d)), 0.0)
