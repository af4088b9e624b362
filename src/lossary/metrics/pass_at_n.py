"""Pass@N: how often at least one of N attempts is right."""

import torch
from torch import Tensor

from lossary._core.checks import check_floating, check_shape, check_tensor
from lossary._core.parameters import Interval, PositiveCount, checked
from lossary._core.registry import unit
from lossary.errors import InvalidTypeError, InvalidValueError
from lossary.metrics._expectation import exact


@unit(kind="diagnostic", declares={"bounds": (0.0, 1.0), "empty": 0.0})
@checked("pass_at_n")
def pass_at_n(prob: Tensor, n: PositiveCount) -> Tensor:
    r"""The chance that at least one of n independent attempts is right, averaged over problems.

    .. math:: \frac1M \sum_i \left[ 1 - (1 - p_i)^n \right]

    It is differentiable, and exact also for probabilities so small that one minus them is one.

    Args:
        prob: the probability of the right answer to each problem.
        n: how many attempts there are.
    Shape: prob of any shape, in [0, 1]; the result is a scalar. No problem at all gives 0.
    Units: a share of the problems.
    Errors: an integer prob, or an n below 1, is a ``LossaryError``.
    Source: Chen, Raventos, Cheng, Ganguli and Druckmann, "Rethinking Fine-Tuning when Scaling Test-Time Compute: Limiting
        Confidence Improves Mathematical Reasoning", 2025.

    >>> pass_at_n(torch.tensor([0.5, 0.0]), 2)
    tensor(0.3750)
    """
    check_floating("pass_at_n", "prob", prob)
    p = prob.to(torch.promote_types(prob.dtype, torch.float32))
    # Each form where it keeps its digits and has a finite gradient.
    likely = 1 - (1 - p).pow(n)
    unlikely = -torch.expm1(n * torch.log1p(-p.clamp_max(0.5)))
    return torch.where(p > 0.5, likely, unlikely).sum() / max(p.numel(), 1)


@unit(kind="diagnostic", declares={"bounds": (0.0, 1.0), "empty": 0.0})
@checked("pass_at_n_from_counts")
def pass_at_n_from_counts(correct: Tensor, samples: int | Tensor, n: PositiveCount) -> Tensor:
    r"""Pass@N without bias from counts: of so many sampled answers to each problem, so many were right.

    .. math:: \frac1M \sum_i \left[ 1 - \binom{s_i - c_i}{n} \Big/ \binom{s_i}{n} \right]

    the share of all choices of n answers that hold a right one. Putting the share of right answers into :func:`pass_at_n` instead
    gives too little on average. The quotient is a product of n factors, so that no binomial coefficient overflows.

    Args:
        correct: how many sampled answers to each problem were right.
        samples: how many were sampled, for all problems or for each.
        n: how many attempts there are, at most as many as samples.
    Shape: correct (M,) integers; samples an integer or (M,) integers; the result is a double-precision scalar. No problem gives 0.
    Units: a share of the problems.
    Errors: counts that are not integers or contradict each other are a ``LossaryError``.
    Source: Chen, Raventos, Cheng, Ganguli and Druckmann, "Rethinking Fine-Tuning when Scaling Test-Time Compute: Limiting
        Confidence Improves Mathematical Reasoning", 2025, with the estimator that is usual for generated programs.

    >>> pass_at_n_from_counts(torch.tensor([1, 0]), 4, n=2)
    tensor(0.2500, dtype=torch.float64)
    """
    owner = "pass_at_n_from_counts"
    check_tensor(owner, "correct", correct)
    count = Interval(whole=True).plain(samples)
    if isinstance(count, Tensor):
        total = count
    elif type(count) is int:
        total = torch.full(correct.shape, count, dtype=torch.int64, device=correct.device)
    else:
        raise InvalidTypeError(f"{owner}: samples must be an integer or a tensor of them, got {samples!r}")
    for name, counts in (("correct", correct), ("samples", total)):
        if counts.dtype == torch.bool or counts.is_floating_point() or counts.is_complex():
            raise InvalidTypeError(f"{owner}: {name} must be integers, got {counts.dtype}")
    check_shape(owner, "correct", correct, (correct.numel(),))
    check_shape(owner, "samples", total, (correct.numel(),))
    correct, total = correct.long(), total.long()
    if ((correct < 0) | (correct > total) | (total < n)).any():
        raise InvalidValueError(f"{owner}: correct must be from 0 to samples, and samples at least n={n}, for every problem")
    right, total = exact(correct), exact(total)
    remaining = total[:, None] - torch.arange(n, dtype=torch.float64, device=total.device)  # (M, n), 1 or more
    share = (right[:, None] / remaining).clamp_max(1.0)  # of the answers left that are right
    return -torch.expm1(torch.log1p(-share).sum(1)).sum() / max(correct.numel(), 1)
