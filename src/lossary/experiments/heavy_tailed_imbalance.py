"""Why Adam outruns gradient descent where classes are heavy-tailed: logistic regression on classes of 2, 4, 8, ... samples."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot
from torch.optim import SGD, Adam, Optimizer

from lossary._core.names import suggestion
from lossary._core.parameters import Count, Interval, PositiveCount, checked
from lossary._core.registry import unit
from lossary.errors import InvalidValueError, UnknownNameError
from lossary.optim import NormalizedSGD, RescaledSignSGD, SignSGD

STEP_SIZE = Interval(low=0.0, open_low=True)
RARE = 4  # samples that a class has at most, to be called rare
NOTHING = 1e-30  # a probability that changes no sum
Factory = Callable[[list[Tensor], float], Optimizer]
# Each with the step sizes it is given the best of.
OPTIMIZERS: dict[str, tuple[Factory, tuple[float, ...]]] = {
    "gradient_descent": (lambda params, lr: SGD(params, lr=lr), (0.03, 0.1, 0.3)),
    "momentum": (lambda params, lr: SGD(params, lr=lr, momentum=0.9), (0.01, 0.03, 0.1)),
    "normalized": (lambda params, lr: NormalizedSGD(params, lr=lr), (0.03, 0.1, 0.3)),
    "adam": (lambda params, lr: Adam(params, lr=lr), (0.003, 0.01, 0.03)),
    "sign": (lambda params, lr: SignSGD(params, lr=lr), (0.0003, 0.001, 0.003)),
    "rescaled_sign": (lambda params, lr: RescaledSignSGD(params, lr=lr), (1e-6, 3e-6, 1e-5)),
}


@dataclass(frozen=True)
class ImbalanceCourse:
    """The mean losses before each step and after the last one, at the step size whose final total is smallest."""

    learning_rate: float
    total: Tensor  # (steps + 1,)
    frequent: Tensor  # (steps + 1,), over samples of classes with more than 4 samples; NaN if there are none
    rare: Tensor  # (steps + 1,), over the others


@unit(kind="data_rule")
@checked("heavy_tailed_labels")
def heavy_tailed_labels(m: PositiveCount) -> Tensor:
    r"""Labels whose class frequencies fall like 1 over the rank, as those of words do.

    .. math:: n_c = 2^{m - i} \quad \text{for the } 2^i \text{ classes of block } i = 0, \ldots, m - 1

    Every block has the same number of samples.

    Args:
        m: the number of blocks.
    Shape: the result is (m 2^m,) int64 with 2^m - 1 classes, the most frequent first.
    Source: Kunstner, Yadav, Milligan, Schmidt and Bietti, "Heavy-Tailed Class Imbalance and Why Adam Outperforms Gradient Descent
        on Language Models", 2024.

    >>> heavy_tailed_labels(2)
    tensor([0, 0, 0, 0, 1, 1, 2, 2])
    """
    blocks = [torch.arange(2**i - 1, 2 ** (i + 1) - 1).repeat_interleave(2 ** (m - i)) for i in range(m)]
    return torch.cat(blocks)


@unit(kind="experiment")
@checked("heavy_tailed_imbalance")
def heavy_tailed_imbalance(
    m: PositiveCount = 7,
    optimizers: Sequence[str] = ("gradient_descent", "momentum", "normalized", "adam", "sign"),
    steps: Count = 100,
    seed: int = 0,
    learning_rates: Mapping[str, Sequence[float]] | None = None,
) -> dict[str, ImbalanceCourse]:
    r"""How optimizers share a budget of steps between frequent and rare classes.

    .. math:: \min_W \frac1n \sum_i -\log \mathrm{softmax}(W^\top x_i)_{y_i}, \qquad x_i \sim U[0, 1]^d,\; d = (m + 1)\,2^m

    Full-batch logistic regression from zero on the labels of :func:`heavy_tailed_labels`. Gradient descent fits frequent classes
    first and hardly moves the rare ones; Adam and sign descent fit both. Keep the budget short: with twice the steps very large
    step sizes of gradient descent fit everything too, and momentum at its largest step size catches up at once.

    Args:
        m: the number of blocks of classes; 7 has 896 samples of 127 classes, 11 is the size of the paper's figure.
        optimizers: which of gradient_descent, momentum, normalized, adam, sign and rescaled_sign to run.
        steps: the budget.
        seed: of the inputs.
        learning_rates: the step sizes to choose from, for each optimizer that is not to use its own.
    Shape: for each optimizer the losses (steps + 1,) of all, of the frequent and of the rare samples.
    Units: nats.
    Errors: a name other than these, a size that is not a positive integer, or no step size to choose from is a ``LossaryError``.
    Source: Kunstner, Yadav, Milligan, Schmidt and Bietti, "Heavy-Tailed Class Imbalance and Why Adam Outperforms Gradient Descent
        on Language Models", 2024.

    >>> course = heavy_tailed_imbalance(m=3, optimizers=["adam"], steps=50)["adam"]
    >>> round(float(course.total[0]), 3), bool(course.rare[-1] < 0.3)  # begins at log 7
    (1.946, True)
    """
    for name in [*optimizers, *(learning_rates or {})]:
        if name not in OPTIMIZERS:
            raise UnknownNameError(
                f"heavy_tailed_imbalance: there is no optimizer named {name!r}{suggestion(name, OPTIMIZERS)};"
                f" there are {', '.join(OPTIMIZERS)}"
            )
    for name, rates in (learning_rates or {}).items():
        if not isinstance(rates, Sequence) or not rates or not all(STEP_SIZE.allows(rate) for rate in rates):
            raise InvalidValueError(
                "heavy_tailed_imbalance: learning_rates must be one or more numbers > 0 for each optimizer,"
                f" got {rates!r} for {name!r}"
            )
    labels = heavy_tailed_labels(m)
    inputs = torch.rand(len(labels), (m + 1) * 2**m, generator=torch.Generator().manual_seed(seed))
    courses = {}
    for name in optimizers:
        make, usual = OPTIMIZERS[name]
        tried = [_course(make, lr, inputs, labels, steps) for lr in (learning_rates or {}).get(name, usual)]
        courses[name] = min(tried, key=lambda course: float(course.total[-1].nan_to_num(torch.inf)))
    return courses


@torch.no_grad()
def _course(make: Factory, lr: float, inputs: Tensor, labels: Tensor, steps: int) -> ImbalanceCourse:
    counts = labels.bincount()
    rare = (counts <= RARE)[labels]
    truth = one_hot(labels).to(inputs.dtype)
    weight = torch.zeros(inputs.shape[1], len(counts), requires_grad=True)
    optimizer = make([weight], lr)
    parts: list[Tensor] = []
    for step in range(steps + 1):
        logits = inputs @ weight
        losses = cross_entropy(logits, labels, reduction="none")
        parts.append(torch.stack([losses.mean(), losses[~rare].mean(), losses[rare].mean()]))
        if step < steps:
            p = logits.softmax(1)
            p = p.masked_fill(p < NOTHING, 0.0)  # processors take many times as long for numbers below 1e-38
            weight.grad = inputs.T @ (p - truth) / len(labels)
            optimizer.step()
    total, frequent, of_rare = torch.stack(parts, 1)
    return ImbalanceCourse(lr, total, frequent, of_rare)
