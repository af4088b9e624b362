"""Proper scores of a sampler from samples alone: nobody has to know a probability.

An unbiased estimate from a fixed number of draws exists only for scores that are polynomials in the probabilities, such as the
quadratic one. Cross-entropy is none; with a random number of draws it can be estimated all the same.
"""

from collections import Counter
from collections.abc import Hashable, Iterable
from numbers import Complex, Rational

import torch
from torch import Tensor

from lossary._core.checks import check_shape
from lossary._core.parameters import Positive, checked
from lossary._core.registry import unit
from lossary.errors import InvalidTypeError, InvalidValueError

Samples = Tensor | Iterable[Hashable]


def _counts(owner: str, argument: str, samples: Samples, at_least: int) -> Counter[Hashable]:
    """How often each outcome occurs."""
    if isinstance(samples, Tensor):
        if samples.is_floating_point() or samples.is_complex():
            raise InvalidTypeError(f"{owner}: {argument} must be integers, or made discrete first, got {samples.dtype}")
        check_shape(owner, argument, samples, (samples.numel(),))
        samples = samples.tolist()
    elif isinstance(samples, (str, bytes)) or not isinstance(samples, Iterable):
        raise InvalidTypeError(f"{owner}: {argument} must be a tensor or a sequence of outcomes, got {type(samples).__name__}")
    try:
        counts = Counter(samples)
    except TypeError as error:
        raise InvalidTypeError(f"{owner}: {argument} must be hashable outcomes, got some that are not ({error})") from error
    for outcome in counts:
        if isinstance(outcome, Tensor):  # is equal to nothing but itself
            raise InvalidTypeError(f"{owner}: {argument} must be one tensor or outcomes that are none, got a sequence of tensors")
        if isinstance(outcome, Complex) and not isinstance(outcome, Rational):
            raise InvalidTypeError(f"{owner}: {argument} must be integers, or made discrete first, got {type(outcome).__name__}")
    if counts.total() < at_least:
        raise InvalidValueError(f"{owner}: {argument} must be at least {at_least} samples, got {counts.total()}")
    return counts


def _collisions(counts: Counter[Hashable]) -> float:
    """The share of equal pairs among all pairs of different draws."""
    n = counts.total()
    return sum(count * (count - 1) for count in counts.values()) / (n * (n - 1))


@unit(kind="diagnostic")
@checked("black_box_quadratic")
def black_box_quadratic(model_samples: Samples, target_samples: Samples, include_target_term: bool = False) -> Tensor:
    r"""The quadratic score of a sampler, without bias, from draws of the model and of the target.

    .. math::
        \frac{1}{n(n-1)} \sum_{i \ne j} [X_i = X_j] - \frac{2}{nm} \sum_{i,j} [X_i = Y_j] \;
        \Big( + \frac{1}{m(m-1)} \sum_{i \ne j} [Y_i = Y_j] \Big)

    Its expectation is sum p^2 - 2 sum p q, smallest where the model p is the target q; with the last term, which no model can
    change, it is the squared distance of p and q. Single values can be negative. To compare observed shares rewards models
    that are too sure of themselves. Only equality of outcomes is looked at; real numbers have to be made discrete first.

    The objective of this name trains a model's logits; this is the score of samples.

    Args:
        model_samples: at least 2 draws of the model.
        target_samples: at least 1 draw of the target, 2 with ``include_target_term``.
        include_target_term: add the last term.
    Shape: (n,) and (m,), integer tensors or sequences of anything hashable; the result is a double-precision scalar, no gradient.
    Units: a squared probability.
    Errors: too few samples, or samples that are real numbers, are a ``LossaryError``.
    Source: Kimpara, Frongillo and Waggoner, "Proper losses for discrete generative models", 2022.

    >>> black_box_quadratic(["a", "a", "b", "c"], ["a", "b"], include_target_term=True)
    tensor(-0.5833, dtype=torch.float64)
    """
    model = _counts("black_box_quadratic", "model_samples", model_samples, 2)
    target = _counts("black_box_quadratic", "target_samples", target_samples, 2 if include_target_term else 1)
    hits = sum(count * target[outcome] for outcome, count in model.items()) / (model.total() * target.total())
    score = _collisions(model) - 2 * hits
    return torch.tensor(score + _collisions(target) if include_target_term else score, dtype=torch.float64)


@unit(kind="diagnostic")
@checked("black_box_cross_entropy")
def black_box_cross_entropy(model_samples: Samples, target_samples: Samples, rate: Positive = 8.0) -> Tensor:
    r"""Cross-entropy of a sampler, without bias, from draws of the target and a random number of draws of the model.

    .. math::
        \frac1m \sum_j \sum_{k=1}^{M_j} \frac{M_j (M_j - 1) \cdots (M_j - k + 1)}{k \, \lambda^k}, \qquad
        M_j = \sum_i [X_i \ne Y_j], \qquad n \sim \mathrm{Poisson}(\lambda)

    The number n of model samples has to be drawn from a Poisson distribution (``torch.poisson``), with none at all if it says so;
    no fixed number would do. As M is then Poisson with mean (1 - p) lambda, its falling powers have means ((1 - p) lambda)^k, and
    the series is that of -log p. The variance is infinite, so means of repetitions settle slowly: average over many of
    them, each with a number of its own.

    Args:
        model_samples: draws of the model, a Poisson number of them.
        target_samples: at least 1 draw of the target.
        rate: lambda, the mean number of model samples.
    Shape: (n,) and (m,), integer tensors or sequences of anything hashable; the result is a double-precision scalar, no gradient.
    Units: nats.
    Errors: no target sample, a rate that is not above 0, or samples that are real numbers, are a ``LossaryError``.
    Source: Kimpara, Frongillo and Waggoner, "Proper losses for discrete generative models", 2022, for the principle; the estimator
        is derived here from it, and the paper may write it differently.

    >>> black_box_cross_entropy(torch.tensor([0, 1, 2]), torch.tensor([0]), rate=2.0)
    tensor(1.2500, dtype=torch.float64)
    """
    model = _counts("black_box_cross_entropy", "model_samples", model_samples, 0)
    target = _counts("black_box_cross_entropy", "target_samples", target_samples, 1)
    total = 0.0
    for outcome, count in target.items():
        different = model.total() - model[outcome]
        product = 1.0
        for k in range(1, different + 1):
            product *= (different - k + 1) / rate
            total += count * product / k
    return torch.tensor(total / target.total(), dtype=torch.float64)
