"""The function of a comp-sum loss, from the log-probability of the class."""

import torch
from torch import Tensor

STEEPEST = 10.0  # the logarithm of the largest slope; e^10 is a number in every dtype, and so are its sums over a few classes
NEAR_ONE = 1e-12


def comp_sum_of(log_p: Tensor, tau: float) -> Tensor:
    """((1/p)^(1 - tau) - 1) / (1 - tau), which is -log p at tau = 1.

    For tau < 1 it grows like a power of 1/p, which no dtype can hold for a logit that is far off: where its slope reaches e^10 it
    goes on as a straight line.
    """
    power = 1 - tau
    if abs(power) < NEAR_ONE:  # the next term of the series is smaller than rounding
        return -log_p
    exponent = -power * log_p
    if power < 0:
        return exponent.expm1() / power
    bent = exponent.clamp_max(STEEPEST)
    return (bent.expm1() + bent.exp() * (exponent - bent)) / power


def norm(squares: Tensor) -> Tensor:
    """The square root of sums of squares, with a gradient of 0 at 0."""
    positive = squares > 0
    return torch.where(positive, squares.masked_fill(~positive, 1.0).sqrt(), 0.0)
