"""Naive Bayes against logistic regression on frozen features, over the number of training samples."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from lossary._core.checks import check_class_inputs
from lossary._core.extras import require
from lossary._core.parameters import Interval, NonNegative, OneOrMore, Positive, PositiveCount, checked
from lossary._core.registry import unit
from lossary.errors import InvalidValueError
from lossary.losses.classification.naive_bayes import NaiveBayesLoss

Sizes = Annotated[int | Sequence[int], OneOrMore(Interval(low=1, whole=True))]


@dataclass(frozen=True)
class LinearEvaluation:
    """Test errors by the number of training samples of each class."""

    sizes: tuple[int, ...]  # samples of each class
    naive_bayes: Tensor  # (sizes, repeats)
    logistic_regression: Tensor  # (sizes, repeats)

    def samples_until(self, error: float) -> dict[str, int | None]:
        """For each method the samples of each class from which its mean error is below this; None if it never is."""
        found: dict[str, int | None] = {}
        for name in ("naive_bayes", "logistic_regression"):
            below = (getattr(self, name).mean(1) < error).tolist()
            found[name] = next((size for size, fits in zip(self.sizes, below, strict=True) if fits), None)
        return found


@unit(kind="experiment")
@checked("linear_evaluation")
def linear_evaluation(
    features: Tensor,
    target: Tensor,
    test_features: Tensor,
    test_target: Tensor,
    *,
    sizes: Sizes = (1, 2, 4, 8, 16, 32, 64, 128),
    repeats: PositiveCount = 5,
    inverse_regularization: Positive = 1.0,
    smoothing: NonNegative = 1e-2,
    seed: int = 0,
) -> LinearEvaluation:
    r"""Naive Bayes and logistic regression as heads on the same frozen features, over the number of training samples.

    .. math:: z_k(x) = \log \pi_k - \frac12 \sum_j \frac{(x_j - \mu_{kj})^2}{\sigma_j^2}

    The first settles with about log(D) samples, the second needs about D but ends at least as well: which one to take depends on
    how many labels there are. Both see the same samples, each size holding those of the smaller ones. On features that were not
    learned, such as pixels, logistic regression may be ahead from the first sample on.

    Args:
        features, target: training samples to draw from and their classes.
        test_features, test_target: what the errors are measured on.
        sizes: how many samples of each class to train on (all of those of a class that has fewer).
        repeats: how many draws of training samples there are.
        inverse_regularization: C of the logistic regression; larger is less regularized.
        smoothing: what is added to each variance of naive Bayes, as a share of the largest one: features that do not vary would
            decide everything otherwise.
        seed: of the draws.
    Shape: features (N, D), target (N,) class indices, test_features (M, D), test_target (M,); the errors are (sizes, repeats).
    Units: shares of wrong test samples.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Zheng, Wu, Bao, Cao, Li and Zhu, "Revisiting Discriminative vs. Generative Classifiers: Theory and Implications", 2023.
    """
    for x, y in ((features, target), (test_features, test_target)):
        check_class_inputs("linear_evaluation", x, y, None)
        if y.is_floating_point() or x.ndim != 2:
            raise InvalidValueError("linear_evaluation: features must have shape (N, D) and target be class indices of shape (N,)")
    if features.shape[1] != test_features.shape[1]:
        raise InvalidValueError(
            f"linear_evaluation: test_features must have {features.shape[1]} columns, got {test_features.shape[1]}"
        )
    sizes = (sizes,) if isinstance(sizes, int) else sizes
    classes = target.unique()
    if len(classes) < 2:
        raise InvalidValueError(f"linear_evaluation: target must have at least 2 classes, got {len(classes)}")
    generator = torch.Generator().manual_seed(seed)
    errors = torch.zeros(2, len(sizes), repeats, dtype=torch.float64)
    for repeat in range(repeats):
        orders = [(target == c).nonzero().squeeze(1).cpu() for c in classes]
        orders = [order[torch.randperm(len(order), generator=generator)] for order in orders]
        for row, size in enumerate(sizes):
            chosen = torch.cat([order[:size] for order in orders]).to(features.device)
            x, y = features[chosen].detach().double(), target[chosen]
            guess = classes[_naive_bayes(x, y, classes, test_features.detach().double(), smoothing)]
            errors[0, row, repeat] = (guess != test_target).double().mean()
            errors[1, row, repeat] = _logistic_error(x, y, test_features, test_target, inverse_regularization)
    return LinearEvaluation(tuple(sizes), errors[0], errors[1])


@torch.no_grad()
def _naive_bayes(x: Tensor, y: Tensor, classes: Tensor, test: Tensor, smoothing: float) -> Tensor:
    """The likeliest class of each test sample, by its place in ``classes``."""
    model = NaiveBayesLoss(num_classes=len(classes), embedding_dim=x.shape[1], eps=smoothing).double()
    model.fit(x, torch.searchsorted(classes, y))
    return model.logits(test).argmax(1)


def _logistic_error(x: Tensor, y: Tensor, test: Tensor, test_target: Tensor, inverse_regularization: float) -> float:
    require("linear_evaluation", "sklearn")
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # hardly regularized on separable data there is no optimum
        model = LogisticRegression(C=inverse_regularization, max_iter=1000).fit(x.cpu().numpy(), y.cpu().numpy())
    return 1 - float(model.score(test.detach().double().cpu().numpy(), test_target.cpu().numpy()))
