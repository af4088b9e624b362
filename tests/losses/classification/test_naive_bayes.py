"""What is true of the naive Bayes objective alone; the conformance suite does the rest."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from lossary import LossaryError
from lossary.losses.classification.naive_bayes import NaiveBayesLoss, naive_bayes, naive_bayes_fit

GENERATOR = torch.Generator().manual_seed(0)
TARGET = torch.randint(3, (60,), generator=GENERATOR)
X = torch.randn(60, 4, generator=GENERATOR, dtype=torch.float64) * torch.tensor([1.0, 3.0, 0.2, 1.0]) + TARGET.unsqueeze(1)


def made(eps: float = 0.0, classes: int = 3) -> NaiveBayesLoss:
    return NaiveBayesLoss(num_classes=classes, embedding_dim=4, eps=eps).double()


def test_the_loss_matches_a_loop() -> None:
    means = torch.randn(3, 4, generator=GENERATOR, dtype=torch.float64)
    log_variance = torch.randn(4, generator=GENERATOR, dtype=torch.float64)
    prior = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    expected = []
    for x, y in zip(X.tolist(), TARGET.tolist(), strict=True):
        total = -math.log(prior[y].item())
        for v, mean, log_var in zip(x, means[y].tolist(), log_variance.tolist(), strict=True):
            deviation = math.exp(log_var / 2)
            total -= math.log(math.exp(-(((v - mean) / deviation) ** 2) / 2) / (deviation * math.sqrt(2 * math.pi)))
        expected.append(total)
    value = naive_bayes(X, TARGET, means, log_variance, prior.log() + 7.0, reduction="none")  # logits: a shift means nothing
    torch.testing.assert_close(value, X.new_tensor(expected))


def test_fit_finds_moments_and_leaves_no_gradient() -> None:
    loss = made()
    loss.fit(X, TARGET)
    variance = torch.zeros(4, dtype=torch.float64)
    for c in range(3):
        own = X[c == TARGET]
        torch.testing.assert_close(loss.means[c].detach(), own.mean(0))
        assert loss.prior_logits.softmax(0)[c].item() == pytest.approx(len(own) / 60)
        variance += len(own) / 60 * own.var(0, correction=0)
    torch.testing.assert_close(loss.log_variance.exp().detach(), variance)
    gradients = torch.autograd.grad(loss(X, TARGET), list(loss.parameters()))
    assert all(float(gradient.abs().max()) < 1e-12 for gradient in gradients)


def test_parts_in_any_order_are_worth_the_whole() -> None:
    whole, parts = made(), made()
    whole.fit(X, TARGET)
    order = TARGET.argsort(descending=True)  # the first parts lack classes altogether
    parts.fit(X[order[:7]], TARGET[order[:7]])
    for rows in order[7:].split(13):
        parts.partial_fit(X[rows], TARGET[rows])
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    parts.fit(X[:20], TARGET[:20])  # fit forgets what came before
    assert parts.seen.sum() == 20


def test_fitting_goes_on_from_a_saved_state() -> None:
    first, second, whole = made(), made(), made()
    first.fit(X[:30], TARGET[:30])
    second.load_state_dict(first.state_dict())
    second.partial_fit(X[30:], TARGET[30:])
    whole.fit(X, TARGET)
    torch.testing.assert_close(second.means, whole.means)


def test_logits_are_those_of_linear_discriminants_with_a_diagonal_covariance() -> None:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    class Diagonal:
        """The covariance of each class without what is beside the diagonal."""

        def fit(self, x: object) -> "Diagonal":
            self.covariance_ = np.diag(np.asarray(x).var(0))
            return self

    peer = LinearDiscriminantAnalysis(solver="lsqr", covariance_estimator=Diagonal()).fit(X.numpy(), TARGET.numpy())
    loss = made()
    loss.fit(X, TARGET)
    torch.testing.assert_close(loss.link(X).detach(), torch.from_numpy(peer.predict_proba(X.numpy())))
    logits = loss.logits(X).detach()
    torch.testing.assert_close(logits.softmax(1), loss.link(X).detach())
    middle = loss.logits((X[:1] + X[1:2]) / 2) - (loss.logits(X[:1]) + loss.logits(X[1:2])) / 2
    torch.testing.assert_close(middle - middle[:, :1], torch.zeros(1, 3, dtype=torch.float64))  # differences are linear in x


def test_large_offsets_do_not_lose_the_variance() -> None:
    loss = NaiveBayesLoss(num_classes=3, embedding_dim=4, eps=0.0)
    loss.fit((X + 1e6), TARGET)
    exact = made()
    exact.fit(X, TARGET)
    torch.testing.assert_close(loss.log_variance.double(), exact.log_variance, atol=1e-5, rtol=1e-5)


def test_constant_features_and_missing_classes_stay_finite() -> None:
    x = torch.cat([X[:, :3], torch.full((60, 1), 7.0)], 1)
    loss = made(eps=1e-9, classes=5)  # classes 3 and 4 never occur
    loss.fit(x, TARGET)
    assert all(parameter.isfinite().all() for parameter in loss.parameters())
    assert loss(x, TARGET).isfinite()
    assert (loss.link(x)[:, 3:] < 1e-30).all()
    largest = loss.log_variance[:3].exp().max()
    assert loss.log_variance[3].exp().item() == pytest.approx(1e-9 * largest.item())
    loss.fit(x[:0], TARGET[:0])
    assert all(parameter.isfinite().all() for parameter in loss.parameters())


def test_samples_of_class_minus_100_are_left_out_of_the_fit() -> None:
    target, x = torch.cat([TARGET, torch.tensor([-100, -100])]), torch.cat([X, torch.full((2, 4), math.nan, dtype=torch.float64)])
    with_them, without = made(), made()
    with_them.fit(x, target)
    without.fit(X, TARGET)
    for one, other in zip(with_them.parameters(), without.parameters(), strict=True):
        assert torch.equal(one, other)
    assert with_them.seen.sum() == 60
    with_them.fit(X, torch.full_like(TARGET, -100))
    assert all(parameter.isfinite().all() for parameter in with_them.parameters())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_classes_may_be_integers_of_any_width(dtype: torch.dtype) -> None:
    loss, other = made(), made()
    loss.fit(X, TARGET.to(dtype))
    other.fit(X, TARGET)
    assert torch.equal(loss.means, other.means)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_module_of_halves_fits_in_double_precision(dtype: torch.dtype) -> None:
    x, target = (X.repeat(100, 1) * 30).float(), TARGET.repeat(100)  # thousands of samples, whose squares add up to millions
    loss, exact = made().to(dtype), made()
    loss.fit(x, target)
    exact.fit(x, target)
    assert loss.seen.sum() == 6000
    for one, other in zip(loss.parameters(), exact.parameters(), strict=True):
        torch.testing.assert_close(one, other.to(dtype))


def test_the_function_is_the_fit() -> None:
    loss = made(eps=1e-2)
    loss.fit(X, TARGET)
    for found, parameter in zip(naive_bayes_fit(X.float(), TARGET, 3, eps=1e-2), loss.parameters(), strict=True):
        torch.testing.assert_close(found, parameter.detach(), rtol=1e-5, atol=1e-5)


def test_fewer_samples_than_logistic_regression() -> None:
    """The paper's first regime: two Gaussians in 50 dimensions, samples until the test error is below 0.12."""
    from sklearn.linear_model import LogisticRegression

    def drawn(n: int, seed: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        y = torch.arange(n) % 2
        return torch.randn(n, 50, generator=generator) + (2 * y - 1).unsqueeze(1) * 1.5 / 50**0.5, y

    def needed(kind: str) -> int:
        x_test, y_test = drawn(4000, 1)
        for n in (12, 24, 48, 96, 192, 384, 768, 1536):
            errors = []
            for seed in range(3):
                x, y = drawn(n, 10 + seed)
                if kind == "naive":
                    loss = NaiveBayesLoss(num_classes=2, embedding_dim=50)
                    loss.fit(x, y)
                    predicted = loss.logits(x_test).argmax(1)
                else:
                    peer = LogisticRegression(C=1e4, max_iter=2000).fit(x.numpy(), y.numpy())
                    predicted = torch.from_numpy(peer.predict(x_test.numpy()))
                errors.append((predicted != y_test).double().mean().item())
            if sum(errors) / 3 < 0.12:
                return n
        return 10000

    assert needed("naive") * 3 <= needed("logistic")


def test_the_function_names_a_wrong_embedding() -> None:
    with pytest.raises(LossaryError, match=r"^naive_bayes_fit: embedding must have shape \(N, D\), got \(60,\)$"):
        naive_bayes_fit(X[:, 0], TARGET, 3)
    with pytest.raises(LossaryError, match=r"^naive_bayes_fit: embedding must be a tensor, got list$"):
        naive_bayes_fit([[1.0]], TARGET, 3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X[:, :3], TARGET, r"embedding must have shape \(N, 4\), got \(60, 3\)"),
        (X, TARGET[:5], r"target must have shape \(60,\), got \(5,\)"),
        (X, TARGET.double(), "target must be integers"),
    ],
)
def test_bad_data_is_one_sentence(x: Tensor, y: Tensor, message: str) -> None:
    with pytest.raises(LossaryError, match=f"^naive_bayes: {message}"):
        made().fit(x, y)
