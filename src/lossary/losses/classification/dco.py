"""Direct coverage optimisation: the probability that one of several tries is right."""

import math
from typing import Literal

import torch
from torch import Tensor

from lossary._core.checks import check_class_inputs, check_floating, check_integers, check_shape, shape_text
from lossary._core.objective import SoftmaxObjective, is_ignored, reduce
from lossary._core.parameters import Fraction, PositiveCount, Reduction, Vector, formula
from lossary._core.registry import SpecialCase, objective
from lossary._fast.classes.rule import Rows, average_over_rows
from lossary.errors import InvalidValueError

Level = Literal["class", "sequence"]  # the shapes depend on it, so it is no domain whose values can be tried


MANY = 64  # tries, beyond which products of as many factors lose digits


def _log_one_minus(log_p: Tensor) -> Tensor:
    """log(1 - p) to full precision on both sides of p = 1/2, with a finite slope at p = 1."""
    half = -math.log(2)
    likely = log_p > half
    from_p = torch.log1p(-log_p.masked_fill(likely, half).exp())
    from_difference = (-torch.expm1(log_p.masked_fill(~likely, half))).clamp_min(torch.finfo(log_p.dtype).tiny).log()
    return torch.where(likely, from_difference, from_p)


def _cost(log_p: Tensor, num_samples: int) -> Tensor:
    """-log(1 - (1 - p)^N) from log p."""
    if num_samples > MANY:
        rarest = math.log(torch.finfo(log_p.dtype).eps / num_samples)  # below, (1 - p)^N is 1 - N p to the last bit
        rare = log_p < rarest
        log_all_wrong = num_samples * _log_one_minus(log_p.masked_fill(rare, rarest))
        return torch.where(rare, -log_p - math.log(num_samples), -_log_one_minus(log_all_wrong))
    wrong = -torch.expm1(log_p)
    all_wrong, series = wrong, torch.ones_like(wrong)  # (1 - p)^n, and the sum of (1 - p)^k over k < n
    for digit in f"{num_samples:b}"[1:]:
        series, all_wrong = series * (1 + all_wrong), all_wrong.square()
        if digit == "1":
            series, all_wrong = series + all_wrong, all_wrong * wrong
    # 1 - (1 - p)^N is p times the series, which is exact where p is small
    likely = all_wrong < 0.5
    return torch.where(likely, 0.0, -log_p) - torch.log1p(torch.where(likely, -all_wrong, series - 1))


@formula
def dco(
    logits: Tensor,
    target: Tensor,
    *,
    num_samples: PositiveCount = 16,
    level: Level = "class",
    weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: Fraction = 0.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`DcoLoss`, with the same parameters."""
    _check_level(level)
    if level == "sequence":
        if weight is not None or label_smoothing:
            given = "a weight" if weight is not None else f"label_smoothing={label_smoothing!r}"
            raise InvalidValueError(f"dco: level 'sequence' must have no weight and no label_smoothing, got {given}")
        return _of_sequences(logits, target, num_samples, ignore_index, reduction)
    check_class_inputs("dco", logits, target, weight)

    def if_class(row: Rows) -> Tensor:
        return _cost(row.log_p, num_samples)

    return average_over_rows(
        logits,
        target,
        if_class,
        weight=weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
    )


def _check_level(level: object) -> None:
    if level not in ("class", "sequence"):
        raise InvalidValueError(f"dco: level must be 'class' or 'sequence', got {level!r}")


def _of_sequences(logits: Tensor, target: Tensor, num_samples: int, ignore_index: int, reduction: str) -> Tensor:
    """An answer is right if each of its tokens is: its log-probability is the sum of theirs."""
    check_floating("dco", "logits", logits)
    check_integers("dco", "target", target)
    if logits.ndim != 3:
        raise InvalidValueError(f"dco: logits must have shape (N, T, V), got {shape_text(tuple(logits.shape))}")
    check_shape("dco", "target", target, tuple(logits.shape[:2]))
    log_p = average_over_rows(
        logits.movedim(2, 1),
        target,
        lambda row: row.log_p,
        weight=None,
        ignore_index=ignore_index,
        label_smoothing=0.0,
        reduction="none",
    ).sum(1)
    answered = (~is_ignored(target, ignore_index)).any(1)
    per_sequence = _cost(log_p, num_samples).masked_fill(~answered, 0.0)
    return reduce(per_sequence, answered.sum().to(log_p.dtype), reduction)


@objective(
    family="classification",
    function=dco,
    tune={"num_samples": (1, 64)},
    special_cases=[SpecialCase({"num_samples": 1}, "cross_entropy")],
)
class DcoLoss(SoftmaxObjective):
    r"""Direct coverage optimisation: cross-entropy of "at least one of N tries is right".

    .. math:: \ell(z, y) = -\log\left(1 - (1 - p_y)^N\right), \qquad p = \mathrm{softmax}(z)

    The gradient is that of cross-entropy times a factor that is near 1 while p is much smaller than 1/N and falls to 0 as p grows:
    a sample that is found within N tries is left alone, which limits confidence. N is the number of tries at test time.

    At level "sequence" p is the probability of a whole answer, the product over its tokens.

    Args:
        num_samples: N; 1 is cross-entropy.
        level: "class" for a distribution over classes, "sequence" for answers of several tokens.
        weight, label_smoothing: as in :class:`torch.nn.CrossEntropyLoss`; at level "class" only.
        ignore_index, reduction: as in :class:`torch.nn.CrossEntropyLoss`; an answer of ignored tokens only is left out of the mean.
    Shape: logits (N, C, \*); target (N, \*) class indices, or (N, C, \*) probabilities. At level "sequence" logits (N, T, V) and
        target (N, T), with the prompt ignored; ``reduction="none"`` gives (N,).
    Units: nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Chen et al., "Rethinking Fine-Tuning when Scaling Test-Time Compute: Limiting Confidence Improves Mathematical
        Reasoning", 2025. N = 16 is our choice of a default.

    >>> DcoLoss()(torch.tensor([[2.0, 0.0, -2.0]]), torch.tensor([1]))
    tensor(0.1460)
    """

    def __init__(
        self,
        *,
        num_samples: PositiveCount = 16,
        level: Level = "class",
        weight: Vector | None = None,
        ignore_index: int = -100,
        label_smoothing: Fraction = 0.0,
        reduction: Reduction = "mean",
    ):
        _check_level(level)
        super().__init__(
            num_samples=num_samples,
            level=level,
            weight=weight,
            ignore_index=ignore_index,
            label_smoothing=label_smoothing,
            reduction=reduction,
        )
