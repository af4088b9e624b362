"""Logistic regression with steps so large that it becomes the perceptron, and the normalization that keeps it fast."""

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from lossary._core.checks import check_floating, check_shape, check_tensor, shape_text
from lossary._core.parameters import Count, Interval, OneOf, Positive, checked
from lossary._core.registry import unit
from lossary.errors import InvalidValueError

Method = Annotated[str, OneOf(("logistic", "normalized", "perceptron"))]


@dataclass(frozen=True)
class LargeStepCourse:
    """What happened until all samples were right."""

    steps: int | None  # how many steps that took; None if the budget ended first
    losses: Tensor  # (taken + 1,), the mean logistic loss before each step and at the end
    mistakes: Tensor  # (taken + 1,), samples that are not strictly on their side
    weight: Tensor  # (D,), at the end


@unit(kind="data_rule")
@checked("crowded_data")
def crowded_data(samples: Annotated[int, Interval(low=2, whole=True)] = 1000) -> tuple[Tensor, Tensor]:
    r"""Separable data on which one sample has to be heard over a crowd of equal ones.

    .. math:: a_1 = \cdots = a_{n-1} = (1, 0.1), \qquad a_n = (-0.5, 0.5), \qquad \text{all of class } 1

    Args:
        samples: the number n of samples.
    Shape: a pair of features (n, 2) and targets (n,), in double precision.
    Source: our own small case of the setting of Tyurin, "From Logistic Regression to the Perceptron Algorithm: Exploring Gradient
        Descent with Large Step Sizes", 2024.

    >>> features, target = crowded_data(3)
    >>> features.tolist(), target.tolist()
    ([[1.0, 0.1], [1.0, 0.1], [-0.5, 0.5]], [1.0, 1.0, 1.0])
    """
    features = torch.tensor([[1.0, 0.1]], dtype=torch.float64).repeat(samples, 1)
    features[-1] = torch.tensor([-0.5, 0.5], dtype=torch.float64)
    return features, torch.ones(samples, dtype=torch.float64)


@unit(kind="experiment")
@checked("large_step_logistic")
def large_step_logistic(
    features: Tensor, target: Tensor, method: Method = "normalized", step_size: Positive = 10.0, max_steps: Count = 100_000
) -> LargeStepCourse:
    r"""How many full-batch steps it takes from zero until every sample is right.

    .. math:: \theta \leftarrow \theta + \gamma \sum_i v_i s_i a_i, \qquad w_i = \sigma(-s_i a_i^\top \theta)

    with v = w / n for gradient descent on the logistic loss, v = w / sum w for its normalized form, and for the batch perceptron
    v = [1 where wrong, 1/2 where undecided] / n, which gradient descent becomes as the step size grows. Steps large enough
    separate sooner although the loss first rises; the normalized form needs no more steps where n is larger.

    Args:
        features, target: separable samples and their classes.
        method: ``"logistic"``, ``"normalized"`` or ``"perceptron"``.
        step_size: the step size gamma. The perceptron's result does not depend on it.
        max_steps: when to give up.
    Shape: features (N, D); target (N,) in {0, 1}.
    Units: the losses are in nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Tyurin, "From Logistic Regression to the Perceptron Algorithm: Exploring Gradient Descent with Large Step Sizes", 2024.

    >>> features, target = crowded_data(1000)
    >>> [large_step_logistic(features, target, method, 100.0).steps for method in ("logistic", "perceptron", "normalized")]
    [470, 451, 2]
    """
    check_floating("large_step_logistic", "features", features)
    if features.ndim != 2:
        raise InvalidValueError(f"large_step_logistic: features must have shape (N, D), got {shape_text(tuple(features.shape))}")
    check_tensor("large_step_logistic", "target", target)
    check_shape("large_step_logistic", "target", target, (len(features),))
    if ((target != 0) & (target != 1)).any():
        raise InvalidValueError("large_step_logistic: target must be 0 or 1, got others")
    signed = (2 * target.double() - 1)[:, None] * features.detach().double()
    weight = torch.zeros(features.shape[1], dtype=torch.float64, device=features.device)
    losses, mistakes = [], []
    for step in range(max_steps + 1):
        margins = signed @ weight
        losses.append(softplus(-margins).mean())
        mistakes.append(wrong := len(margins) - int((margins > 0).sum()))  # NaN is wrong, too
        if not wrong or step == max_steps:
            break
        if method == "normalized":
            voices = logsigmoid(-margins).softmax(0)  # ratios, which stay when the weights themselves vanish
        elif method == "logistic":
            voices = torch.sigmoid(-margins) / len(signed)
        else:
            voices = torch.heaviside(-margins, margins.new_tensor(0.5)) / len(signed)
        weight = weight + step_size * (voices @ signed)
    taken = len(mistakes) - 1
    return LargeStepCourse(None if mistakes[-1] else taken, torch.stack(losses), torch.tensor(mistakes), weight)
