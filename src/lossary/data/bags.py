"""Bags of samples of which only the mean response is known."""

import torch
from torch import Tensor

from lossary._core.checks import check_floating, check_shape, check_tensor, shape_text
from lossary._core.parameters import Positive, checked
from lossary._core.registry import unit
from lossary.errors import InvalidTypeError, InvalidValueError


@unit(kind="data_rule")
def aggregate(target: Tensor, bag: Tensor) -> Tensor:
    r"""The mean response of each bag: what is left of the targets where single ones must not be known.

    .. math:: \bar y_a = \frac{1}{|B_a|} \sum_{i \in B_a} y_i

    The result is the target of ``bag_level``, ``instance_level`` and ``interpolated_bag``.

    Args:
        target: the response of each sample.
        bag: the bag of each sample, numbered from 0.
    Shape: target (N,), bag (N,) int64; the result is (largest bag + 1,), with 0 for a number that no sample has.
    Errors: a shape or dtype other than these, or a negative number of a bag, is a ``LossaryError``.
    Source: Javanmard, Chen, Mirrokni, Badanidiyuru and Fu, "Learning from Aggregate responses: Instance Level versus Bag Level Loss
        Functions", 2024.

    >>> aggregate(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0, 0, 1]))
    tensor([2., 5.])
    """
    means, _ = _means("aggregate", target, bag)
    return means


@unit(kind="data_rule")
@checked("private_aggregate")
def private_aggregate(
    target: Tensor, bag: Tensor, epsilon: Positive, bound: Positive, *, generator: torch.Generator | None = None
) -> Tensor:
    r"""The mean response of each bag with noise, so that no single response can be inferred from it.

    .. math:: \tilde y_a = \frac{1}{|B_a|} \sum_{i \in B_a} \mathrm{clamp}(y_i, -b, b)
        + \mathrm{Laplace}\left(\frac{2b}{|B_a|\,\epsilon}\right)

    One response moves the mean of its bag by at most 2 b / k, which is the noise at epsilon = 1: for disjoint bags the responses
    are epsilon-differentially private (inputs and the bags themselves are taken as public). Draw it once and keep it: each draw
    spends epsilon anew. As all such noise in floating point, it does not withstand an attack on its last digits.

    Args:
        target, bag: as in :func:`aggregate`.
        epsilon: the privacy budget; less is more private.
        bound: responses are clipped to [-bound, bound] first.
        generator: where the noise comes from; without one it is seeded anew by the operating system.
    Shape: target (N,), bag (N,) int64; the result is (largest bag + 1,), with 0 for a number that no sample has.
    Errors: a shape or dtype other than these, or a parameter that is not positive, is a ``LossaryError``.
    Source: Javanmard, Chen, Mirrokni, Badanidiyuru and Fu, "Learning from Aggregate responses: Instance Level versus Bag Level Loss
        Functions", 2024.

    >>> noisy = private_aggregate(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0, 0, 1]), epsilon=1e6, bound=4.0)
    >>> noisy.round()
    tensor([2., 4.])
    """
    check_floating("private_aggregate", "target", target)
    means, sizes = _means("private_aggregate", target.clamp(-bound, bound), bag)
    if generator is None:
        generator = torch.Generator(means.device)
        generator.seed()
    # the difference of two exponential variables is a Laplace variable
    one, other = (torch.empty_like(means).exponential_(generator=generator) for _ in range(2))
    scale = torch.where(sizes > 0, 2 * bound / (sizes.clamp_min(1) * epsilon), torch.zeros_like(means))
    return (means + scale * (one - other)).to(means.dtype)


def _means(owner: str, target: Tensor, bag: Tensor) -> tuple[Tensor, Tensor]:
    """The means of the bags and their sizes."""
    check_floating(owner, "target", target)
    check_tensor(owner, "bag", bag)
    if target.ndim != 1:
        raise InvalidValueError(f"{owner}: target must have shape (N,), got {shape_text(tuple(target.shape))}")
    check_shape(owner, "bag", bag, tuple(target.shape))
    if bag.is_floating_point() or bag.is_complex() or bag.dtype == torch.bool:
        raise InvalidTypeError(f"{owner}: bag must be integers, got {bag.dtype}")
    bag = bag.long()
    if bag.numel() and int(bag.min()) < 0:
        raise InvalidValueError(f"{owner}: bag must be numbers from 0, got {int(bag.min())}")
    bags = int(bag.max()) + 1 if bag.numel() else 0
    wide = target.to(torch.promote_types(target.dtype, torch.float32))
    sizes = torch.bincount(bag, minlength=bags).to(wide.dtype)
    sums = wide.new_zeros(bags).index_add(0, bag, wide)
    return sums / sizes.clamp_min(1), sizes
