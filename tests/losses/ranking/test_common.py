"""What is true of every loss of lists, however it is computed."""

from typing import cast

import pytest
import torch
from tests.losses.ranking._lists import drawn, ways
from torch.func import grad, vmap

import lossary
from lossary._fast.lists import rule as lists_rule
from lossary.errors import InvalidTypeError, InvalidValueError

NAMES = ("approx_ndcg", "lambda_loss", "list_mle", "list_net", "neural_ndcg", "neural_ndcg_transposed", "rank_net")
each = pytest.mark.parametrize("name", NAMES)


@each
def test_a_batch_is_its_lists(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scores, relevance, mask = drawn(6, 9)
    relevance[3] = 0.0  # a list that does not count
    mask[4] = False
    loss, alone = lossary.create(name), lossary.create(name, reduction="none")
    for _, dtype, tolerance in ways(monkeypatch):
        s = scores.to(dtype)
        lists = [alone(s[i : i + 1][:, m], relevance[i : i + 1][:, m])[0] for i, m in enumerate(mask)]
        assert lists[3] == lists[4] == 0
        torch.testing.assert_close(alone(s, relevance, mask), torch.stack(lists), rtol=tolerance, atol=tolerance)
        mean = torch.stack([lists[i] for i in (0, 1, 2, 5)]).mean()
        torch.testing.assert_close(loss(s, relevance, mask), mean, rtol=tolerance, atol=tolerance)


@each
def test_the_order_of_the_items_does_not_matter(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scores, relevance, mask = drawn(5, 11)
    order = torch.randperm(11, generator=torch.Generator().manual_seed(1))
    for _, dtype, tolerance in ways(monkeypatch):
        found = []
        for s, r, m in ((scores, relevance, mask), (scores[:, order], relevance[:, order], mask[:, order])):
            leaf = s.to(dtype).requires_grad_()
            value = lossary.create(name)(leaf, r, m)
            found.append((value, torch.autograd.grad(value, leaf)[0]))
        (value, gradient), (value_of_other, gradient_of_other) = found
        torch.testing.assert_close(value, value_of_other, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(gradient[:, order], gradient_of_other, rtol=tolerance, atol=tolerance)


@each
def test_shifting_the_scores_of_a_list_does_not_matter(name: str) -> None:
    scores, relevance, mask = drawn(5, 11)
    loss = lossary.create(name, reduction="none")
    torch.testing.assert_close(loss(scores + 7, relevance, mask), loss(scores, relevance, mask))


@each
@pytest.mark.parametrize("lists", [0, 2])
@pytest.mark.parametrize("items", [0, 1, 3])
def test_nothing_to_rank_is_zero_with_a_gradient_of_zeros(
    name: str, lists: int, items: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _, dtype, _ in ways(monkeypatch):
        scores = torch.randn(lists, items, dtype=dtype, requires_grad=True)
        value = lossary.create(name)(scores, torch.zeros(lists, items))
        value.backward()
        assert value == 0
        assert scores.grad is not None
        assert not scores.grad.any()


@each
def test_second_derivatives_and_vmap_of_the_compiled_way(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scores, relevance, mask = drawn(4, 6)
    relevance, loss = relevance.nan_to_num(), lossary.create(name)
    found = []
    for dtype in (torch.float64, torch.float32):
        monkeypatch.setattr(lists_rule, "SMALL", 0)
        stacked = torch.stack([scores, 0.5 * scores]).nan_to_num().to(dtype)
        each_gradient = vmap(grad(lambda s: loss(s, relevance, mask)))(stacked)
        one_by_one = torch.stack([grad(lambda s: loss(s, relevance, mask))(s) for s in stacked])
        torch.testing.assert_close(each_gradient, one_by_one)
        leaf = stacked[0].clone().requires_grad_()
        first = torch.autograd.grad(loss(leaf, relevance, mask), leaf, create_graph=True)[0]
        found.append(torch.autograd.grad(first.square().sum(), leaf)[0].double())
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-4)


@each
def test_extreme_scores_and_half_precision_are_finite(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.tensor([[1e4, -1e4, 0.0, 5.0], [0.0] * 4, [1e4] * 4, [-1e4, 1e4, -1e4, 1e4], [3e-5, 2e-5, 1e-5, 0.0]])
    relevance = torch.tensor([[0, 1, 2, 3]]).expand(5, 4)
    for small in (0, 1 << 40):
        monkeypatch.setattr(lists_rule, "SMALL", small)
        for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
            leaf = rows.to(dtype).clone().requires_grad_()
            value = lossary.create(name)(leaf, relevance)
            value.backward()
            assert value.isfinite()
            assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
            assert leaf.grad is not None
            assert leaf.grad.isfinite().all()
            assert leaf.grad.dtype == dtype


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("list_")])
def test_no_matrix_of_pairs_is_kept(name: str) -> None:
    scores = torch.randn(40, 60, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):  # type: ignore[func-returns-value]
        lossary.create(name)(scores, torch.randint(4, (40, 60))).backward()
    assert max(kept) <= 40 * 60


@each
def test_refusals(name: str) -> None:
    x, loss = torch.zeros(2, 3), lossary.create(name)
    with pytest.raises(InvalidTypeError, match=f"{name}: scores must be floating point, got torch.int64"):
        loss(x.long(), x)
    with pytest.raises(InvalidValueError, match=rf"{name}: relevance must have shape \(2, 3\), got \(2, 2\)"):
        loss(x, x[:, :2])
    with pytest.raises(InvalidValueError, match=rf"{name}: scores must have shape \(lists, items\), got \(3,\)"):
        loss(x[0], x[0])
    with pytest.raises(InvalidTypeError, match=rf"{name}: mask must be bool \(True for a real item\), got torch.int64"):
        loss(x, x, x.long())
    with pytest.raises(InvalidValueError, match=rf"{name}: mask must have shape \(2, 3\), got \(2,\)"):
        loss(x, x, torch.ones(2, dtype=torch.bool))


@each
def test_the_caller_keeps_what_is_his(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scores, relevance, mask = drawn(4, 6)
    for _, dtype, _ in ways(monkeypatch):
        s = scores.to(dtype)
        before = s.clone()
        lossary.create(name)(s, relevance, mask)
        assert s.equal(before) or (s.isnan() == before.isnan()).all()


class Named(torch.Tensor):
    """A subclass that adds nothing."""


@each
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")  # of torch's own forward mode
@pytest.mark.parametrize("lists", [2, 400])  # below and above the number of pairs from which loops are used
def test_forward_mode_gives_the_derivative_of_backward_mode(name: str, lists: int) -> None:
    scores, relevance, mask = drawn(lists, 17)
    loss = lossary.create(name)
    for dtype in (torch.float32, torch.float64):
        s = scores.nan_to_num().to(dtype)
        along = torch.randn(s.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
        forwards = torch.func.jvp(lambda s: loss(s, relevance, mask), (s,), (along,))[1]
        backwards = (grad(lambda s: loss(s, relevance, mask))(s) * along).sum()
        torch.testing.assert_close(forwards, backwards, rtol=1e-3, atol=1e-5)


@each
def test_tensors_that_are_not_plain_go_through_plain_operations(name: str) -> None:
    scores, relevance, mask = drawn(400, 17)
    scores, loss = scores.nan_to_num().float(), lossary.create(name)
    leaf, other = scores.clone().requires_grad_(), scores.as_subclass(Named).requires_grad_()
    value, of_subclass = loss(leaf, relevance, mask), loss(other, relevance, mask)
    value.backward()
    of_subclass.backward()
    torch.testing.assert_close(of_subclass.as_subclass(torch.Tensor), value)
    assert other.grad is not None
    torch.testing.assert_close(other.grad.as_subclass(torch.Tensor), leaf.grad, rtol=1e-3, atol=1e-6)
    assert loss(scores.to("meta"), relevance.to("meta"), mask.to("meta")).shape == ()


class Model(torch.nn.Module):
    """A model whose output is a loss, to be exported."""

    def __init__(self, loss: torch.nn.Module):
        super().__init__()
        self.loss = loss

    def forward(self, scores: torch.Tensor, relevance: torch.Tensor) -> torch.Tensor:
        return cast("torch.Tensor", self.loss(scores, relevance))


@each
def test_one_exported_graph_serves_batches_of_any_size(name: str) -> None:
    scores, relevance, _ = drawn(3, 17)
    lists = {0: torch.export.Dim("lists")}
    model = Model(lossary.create(name))
    exported = torch.export.export(
        model, (scores.nan_to_num().float(), relevance.nan_to_num()), dynamic_shapes=(lists, lists)
    ).module()
    for count in (2, 400):
        s, r = (x.nan_to_num().float() for x in drawn(count, 17)[:2])
        torch.testing.assert_close(exported(s, r.double()), model(s, r.double()), rtol=1e-4, atol=1e-5)


@each
def test_without_a_mask_items_of_negative_relevance_are_padding(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scores, relevance, mask = drawn(5, 11)
    for _, dtype, tolerance in ways(monkeypatch):
        masked, padded = scores.to(dtype).requires_grad_(), scores.to(dtype).requires_grad_()
        loss = lossary.create(name)
        values = loss(masked, relevance, mask), loss(padded, relevance.masked_fill(~mask, -1.0))
        torch.testing.assert_close(*values, rtol=tolerance, atol=tolerance)
        gradients = [torch.autograd.grad(value, leaf)[0] for value, leaf in zip(values, (masked, padded), strict=True)]
        torch.testing.assert_close(*gradients, rtol=tolerance, atol=tolerance)
        everything = torch.ones_like(mask)
        grades = relevance.masked_fill(~mask, -1.0)
        assert loss(scores.nan_to_num().to(dtype), grades, everything) != values[0]  # a mask has the last word


@each
def test_an_item_with_a_score_of_minus_infinity_is_not_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scores, relevance, mask = drawn(5, 11)
    for _, dtype, tolerance in ways(monkeypatch):
        masked, absent = scores.to(dtype).requires_grad_(), scores.masked_fill(~mask, -torch.inf).to(dtype).requires_grad_()
        loss = lossary.create(name)
        values = loss(masked, relevance, mask), loss(absent, relevance.nan_to_num(3.0))
        torch.testing.assert_close(*values, rtol=tolerance, atol=tolerance)
        gradients = [torch.autograd.grad(value, leaf)[0] for value, leaf in zip(values, (masked, absent), strict=True)]
        torch.testing.assert_close(*gradients, rtol=tolerance, atol=tolerance)
