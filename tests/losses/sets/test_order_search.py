"""Order search: the best candidate, draws of candidates, and the candidates themselves."""

import itertools

import pytest
import torch

from lossary import functional
from lossary.errors import InvalidValueError
from lossary.losses.sets import OrderSearchLoss


def test_takes_the_likeliest_candidate_and_moves_it_alone() -> None:
    log_prob = torch.tensor([[-3.0, -1.0, -2.0], [-0.5, -9.0, -7.0]], requires_grad=True)
    value = OrderSearchLoss()(log_prob)
    value.backward()
    assert value.item() == 0.75
    torch.testing.assert_close(log_prob.grad, torch.tensor([[0.0, -0.5, 0.0], [-0.5, 0.0, 0.0]]))


def test_one_candidate_is_its_negative_log_likelihood() -> None:
    log_prob = torch.tensor([[-3.0], [-1.0]])
    for mode in ("max", "sample"):
        for progress in (None, 0.0, 1.0):
            assert OrderSearchLoss(mode=mode, reduction="none")(log_prob, progress=progress).tolist() == [3.0, 1.0]


def test_all_candidates_count_alike_for_a_first_part_of_training() -> None:
    log_prob = torch.tensor([[-3.0, -1.0]])
    loss = OrderSearchLoss(pretrain_fraction=0.3)
    assert [float(loss(log_prob, progress=p)) for p in (0.0, 0.29, 0.3, 1.0)] == [2.0, 2.0, 1.0, 1.0]


def test_candidates_are_drawn_by_their_probability() -> None:
    log_prob = torch.tensor([0.2, 0.3, 0.5]).log().repeat(20_000, 1)
    torch.manual_seed(0)
    drawn = OrderSearchLoss(mode="sample", reduction="none")(log_prob)
    shares = [float((drawn == -log_prob[0, k]).double().mean()) for k in range(3)]
    assert shares == pytest.approx([0.2, 0.3, 0.5], abs=0.015)


def test_a_candidate_that_is_none_is_never_taken() -> None:
    log_prob = torch.tensor([[-3.0, -torch.inf]]).repeat(100, 1)
    assert (OrderSearchLoss(mode="sample", reduction="none")(log_prob) == 3.0).all()
    assert (OrderSearchLoss(reduction="none")(log_prob) == 3.0).all()


def test_all_orders() -> None:
    for n in (1, 2, 3, 5):
        orders = functional.candidate_orders(n, 1000)
        assert sorted(map(tuple, orders.tolist())) == sorted(itertools.permutations(range(n)))
        assert orders[0].tolist() == list(range(n))


@pytest.mark.parametrize(("n", "k"), [(4, 7), (8, 100), (12, 50), (30, 5)])
def test_some_orders(n: int, k: int) -> None:
    before = torch.random.get_rng_state()
    orders = functional.candidate_orders(n, k, torch.Generator().manual_seed(0))
    assert torch.random.get_rng_state().equal(before)
    assert orders.shape == (k, n)
    assert orders[0].tolist() == list(range(n))
    assert len(set(map(tuple, orders.tolist()))) == k
    assert (orders.sort(1).values == torch.arange(n)).all()
    assert not functional.candidate_orders(n, k, torch.Generator().manual_seed(1)).equal(orders)


def test_refusals() -> None:
    with pytest.raises(InvalidValueError, match=r"order_search: log_prob must have shape \(N, K\), K >= 1, got \(2, 0\)"):
        OrderSearchLoss()(torch.zeros(2, 0))
    with pytest.raises(InvalidValueError, match=r"order_search: progress must be a number from 0 to 1, got 2"):
        OrderSearchLoss()(torch.zeros(2, 1), progress=2)
    with pytest.raises(InvalidValueError, match="candidate_orders: n must be an integer >= 1, got 0"):
        functional.candidate_orders(0, 1)
