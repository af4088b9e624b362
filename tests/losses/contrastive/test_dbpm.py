"""What is true of dynamic bad pair mining alone; the conformance suite does the rest."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from lossary import LossaryError
from lossary.losses import ByolLoss, DBPMLoss
from lossary.losses.contrastive.dbpm import bad_pairs, dbpm

GENERATOR = torch.Generator().manual_seed(0)
A, B = (torch.randn(6, 4, generator=GENERATOR, dtype=torch.float64) for _ in range(2))
INDEX = torch.tensor([3, 0, 7, 6, 2, 9])
NONE = torch.zeros(10, dtype=torch.bool), torch.tensor(0.0), torch.tensor(0.0)


def contrast(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """NT-Xent of each pair, from the whole matrix."""
    n = len(a)
    x = normalize(torch.cat([a, b]))
    z = (x @ x.T / temperature).fill_diagonal_(-torch.inf)
    return cross_entropy(z, torch.arange(2 * n).roll(n), reduction="none").view(2, n).mean(0)


def test_unweighted_it_is_nt_xent() -> None:
    loss, each = dbpm(A, B, INDEX, *NONE, temperature=0.3)
    torch.testing.assert_close(each, contrast(A, B, 0.3))
    torch.testing.assert_close(loss, contrast(A, B, 0.3).mean())


def test_flagged_pairs_are_weighted_by_the_normal_density_of_their_loss() -> None:
    flagged = torch.zeros(10, dtype=torch.bool).index_fill(0, torch.tensor([0, 6, 8]), True)
    for deviation, cap in ((0.1, False), (0.1, True), (0.7, False)):
        expected = 0.0
        for i, value in enumerate(contrast(A, B, 0.2).tolist()):
            density = math.exp(-(((value - 2.0) / deviation) ** 2) / 2) / (deviation * math.sqrt(2 * math.pi))
            expected += (min(density, 1.0) if cap else density) * value if int(INDEX[i]) in (0, 6) else value
        loss, _ = dbpm(A, B, INDEX, flagged, torch.tensor(2.0), torch.tensor(deviation), cap=cap)
        assert loss.item() == pytest.approx(expected / 6)


def test_the_weight_is_a_constant() -> None:
    flagged = torch.ones(10, dtype=torch.bool)
    a, c = A.clone().requires_grad_(), A.clone().requires_grad_()
    loss, each = dbpm(a, B, INDEX, flagged, torch.tensor(2.0), torch.tensor(0.5))
    weight = torch.distributions.Normal(2.0, 0.5).log_prob(each).exp()
    torch.testing.assert_close(
        torch.autograd.grad(loss, a), torch.autograd.grad((weight * contrast(c, B, 0.2)).mean(), c), atol=1e-6, rtol=1e-5
    )
    assert not each.requires_grad


def test_bad_pairs_stand_out_from_all_by_their_ramped_means() -> None:
    generator = torch.Generator().manual_seed(1)
    history = torch.rand(40, 10, generator=generator).mul(0.2).add(1.0)
    history[3, :5], history[17, :5] = 0.2, 3.0
    history[20] = torch.nan  # never seen
    history[21, 1] = torch.nan
    flagged, mean, deviation = bad_pairs(history, 5, noisy_threshold=1.5, faulty_threshold=2.0)
    means = {}
    for i, row in enumerate(history[:, :5].tolist()):
        terms = [(k + 1) / 10 * value for k, value in enumerate(row) if not math.isnan(value)]
        if terms:
            means[i] = sum(terms) / len(terms)
    mu = sum(means.values()) / len(means)
    sd = math.sqrt(sum((m - mu) ** 2 for m in means.values()) / len(means))
    assert mean.item() == pytest.approx(mu, abs=1e-6)
    assert deviation.item() == pytest.approx(sd, abs=1e-6)
    expected = [i for i, m in means.items() if m <= mu - 1.5 * sd or m >= mu + 2.0 * sd]
    assert flagged.nonzero().flatten().tolist() == expected
    assert {3, 17} <= set(expected)


def test_equal_losses_flag_nobody() -> None:
    flagged, _, deviation = bad_pairs(torch.ones(5, 4), 2)
    assert deviation == 0
    assert not flagged.any()
    flagged, _, _ = bad_pairs(torch.full((5, 4), torch.nan), 2)
    assert not flagged.any()


def batches(loss: DBPMLoss, epochs: int) -> list[tuple[float, float]]:
    """Trains nothing: gives the loss the same pairs for some epochs, of which pair 5 is wrong, and returns loss and NT-Xent."""
    a = torch.randn(12, 8, generator=torch.Generator().manual_seed(3))
    b = a.clone()
    b[5] = -a[5]
    return [(float(loss(a, b, torch.arange(12), e / epochs)), float(contrast(a, b, 0.2).mean())) for e in range(epochs)]


def test_it_is_the_base_until_the_warmup_ends_and_then_drops_the_wrong_pair() -> None:
    loss = DBPMLoss(num_samples=12, num_epochs=8)
    found = batches(loss, 8)
    assert [value == pytest.approx(plain) for value, plain in found] == [True] * 5 + [False] * 3
    assert loss.flagged.nonzero().flatten().tolist() == [5]
    assert int(loss.mined) == 7
    assert found[7][0] < 0.7 * found[7][1]


def test_thresholds_out_of_reach_are_the_base_for_ever() -> None:
    loss = DBPMLoss(num_samples=12, num_epochs=8, noisy_threshold=1e9, faulty_threshold=1e9)
    assert all(value == pytest.approx(plain) for value, plain in batches(loss, 8))


@pytest.mark.parametrize("epochs", [7, 80, 300])
def test_epochs_are_counted_from_progress(epochs: int) -> None:
    loss = DBPMLoss(num_samples=10, num_epochs=epochs, warmup=1.0)
    for epoch in range(epochs):
        loss(A, B, INDEX, epoch / epochs)
        assert loss.history[3, epoch].isfinite(), epoch
    loss(A, B, INDEX, progress=1.0)  # still the last epoch


def test_memory_is_written_in_training_only_overwritten_within_an_epoch_and_travels() -> None:
    loss = DBPMLoss(num_samples=10)
    loss.eval()
    loss(A, B, INDEX, 0.0)
    assert loss.history.isnan().all()
    loss.train()
    loss(A, B, INDEX, 0.0)
    loss(B, A.roll(1, 0), INDEX, 0.001)
    torch.testing.assert_close(loss.history[INDEX, 0].double(), contrast(B, A.roll(1, 0), 0.2), atol=1e-6, rtol=1e-6)
    assert int(loss.history.isfinite().sum()) == 6
    again = DBPMLoss(num_samples=10)
    again.load_state_dict(loss.state_dict())
    torch.testing.assert_close(again.history, loss.history, equal_nan=True)


def test_another_base() -> None:
    loss = DBPMLoss(num_samples=10, base=ByolLoss(reduction="none"))
    torch.testing.assert_close(loss(A, B, INDEX, 0.0), ByolLoss()(A, B))
    with pytest.raises(LossaryError, match=r"^dbpm: base\(a, b\) must have shape \(6,\), got \(\)"):
        DBPMLoss(num_samples=10, base=ByolLoss())(A, B, INDEX, 0.0)
    with pytest.raises(LossaryError, match=r"^dbpm: base must be a torch.nn.Module or None, got str"):
        DBPMLoss(num_samples=10, base="byol")  # type: ignore[arg-type]


@pytest.mark.parametrize("progress", [-0.1, 1.1, None, True])
def test_progress_is_a_fraction(progress: object) -> None:
    with pytest.raises(LossaryError, match=r"^dbpm: progress must be a number from 0 to 1, got "):
        DBPMLoss(num_samples=10)(A, B, INDEX, progress)


def test_many_samples_match_the_matrix() -> None:
    generator = torch.Generator().manual_seed(2)
    a, b = (torch.randn(300, 6, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(2))
    loss, _ = dbpm(a, b, torch.arange(300) % 10, *NONE)
    expected = contrast(a, b, 0.2).mean()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, (a, b)), torch.autograd.grad(expected, (a, b)))


def test_nothing_is_zero_with_a_gradient() -> None:
    a = torch.zeros(0, 3, requires_grad=True)
    loss = DBPMLoss(num_samples=10)(a, torch.zeros(0, 3), torch.zeros(0).long(), 0.0)
    assert loss.item() == 0
    assert torch.autograd.grad(loss, a)[0].shape == (0, 3)
