"""Set-level Dice: the overlap score of each class over the whole batch, a soft macro-averaged F1."""

import functools

import torch
from torch import Tensor

from lossary._core.checks import check_class_inputs
from lossary._core.objective import SoftmaxObjective, log_softmax, widen
from lossary._core.parameters import Fraction, NonNegative, SetReduction, formula
from lossary._core.registry import objective
from lossary._fast import dispatch
from lossary._fast.one_pass import in_one_pass
from lossary.losses.classification._common import Exponent, classes_exist, masses, without_ignored


@formula
def set_dice(
    logits: Tensor,
    target: Tensor,
    *,
    smooth: NonNegative = 1.0,
    power: Exponent = 2.0,
    ignore_index: int = -100,
    label_smoothing: Fraction = 0.0,
    reduction: SetReduction = "mean",
) -> Tensor:
    """The pure function behind :class:`SetDiceLoss`, with the same parameters."""
    check_class_inputs("set_dice", logits, target, None)
    numbers = smooth, power, ignore_index, label_smoothing, reduction
    hard = not target.is_floating_point() and not label_smoothing
    if hard and dispatch.take_compiled_loops(logits, target) and classes_exist(target, logits.shape[1], ignore_index):
        compute, plain = functools.partial(_in_a_loop, *numbers), functools.partial(_plain, *numbers)
        found: Tensor = in_one_pass(compute, plain, logits, target)
        return found
    return _plain(*numbers, logits, target)


def _plain(
    smooth: float, power: float, ignore_index: int, label_smoothing: float, reduction: str, logits: Tensor, target: Tensor
) -> Tensor:
    log_p = log_softmax(widen(without_ignored(logits, target, ignore_index)))
    q, kept = masses(target, log_p, ignore_index, label_smoothing)
    p = log_p.exp().masked_fill(~kept, 0.0)
    sizes = p.pow(power) + q.pow(power)
    samples = [dim for dim in range(p.ndim) if dim != 1]
    # one minus the score, so that a small loss keeps its digits
    missing, sizes = (sizes - 2 * p * q).sum(samples), sizes.sum(samples) + smooth
    nothing = sizes < torch.finfo(p.dtype).tiny  # without smoothing, of an absent class: its score is 0, if there are samples
    there = (log_p.detach() != -torch.inf).movedim(1, 0).flatten(1).any(1)  # a class that is masked everywhere does not count
    scores = torch.where(nothing, kept.any().to(p.dtype), missing / sizes.masked_fill(nothing, 1.0))
    loss = scores.masked_fill(~there, 0.0).sum() / there.sum().clamp_min(1)
    return loss * kept.sum() if reduction == "sum" else loss


def _in_a_loop(
    smooth: float, power: float, ignore_index: int, _: float, reduction: str, wanted: bool, logits: Tensor, target: Tensor
) -> tuple[Tensor, Tensor]:
    """The loss and its gradient, whose room holds the probabilities first, whether it is wanted or not."""
    from lossary.losses.classification import _loops  # which imports Numba

    gradient = logits.new_empty(logits.shape)
    shape = logits.shape if logits.ndim == 2 else (*logits.shape[:2], -1)
    z, p = (x.detach().contiguous().view(shape).numpy() for x in (logits, gradient))
    y = target.long().contiguous().view(shape[:1] + shape[2:]).numpy()
    return logits.new_tensor(_loops.set_dice(z, y, ignore_index, power, smooth, reduction == "sum", p)), gradient


@objective(
    family="classification",
    function=set_dice,
    decomposable=False,
    distributed="inexact",
    saturates=True,  # by its square of the probability, and by the softmax
    tune={"smooth": (0.1, 2.0)},
)
class SetDiceLoss(SoftmaxObjective):
    r"""Set-level Dice: one minus a soft macro-averaged F1 of the batch.

    .. math::
        \mathcal{L} = 1 - \frac{1}{C} \sum_c \frac{2 \sum_n p_{nc} y_{nc} + s}{\sum_n p_{nc}^r + \sum_n y_{nc}^r + s},
        \qquad p_n = \mathrm{softmax}(z_n)

    The score that an evaluation reports is computed over all samples; averaging scores of single samples (``sample_dice``) does
    not optimise it. A function of the batch as a whole: it wants large batches, in which every class has a chance to occur, and
    accumulating gradients over parts of a batch changes it. A class that is absent from the batch pulls its probabilities down,
    gently for a large s; with s = 0 it has no gradient. Soft targets stand for y as they are: with r = 2 the loss is 0 exactly
    where p equals them.

    Args:
        smooth: the number s added to both sides of the fraction.
        power: the exponent r in the denominator, at least 1; with 1 both levels tend to predict the largest class only.
        ignore_index, label_smoothing: as in :class:`torch.nn.CrossEntropyLoss`.
        reduction: ``"mean"``, the formula above, or ``"sum"``, which is that times the number of samples.
    Shape: logits (N, C, \*); target (N, \*) class indices, or (N, C, \*) probabilities. Sums run over all but the classes.
    Units: a share, from 0 to 1 for powers up to 2.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Yuan, Zhang, Huang and Liang, "Simpson's Bias in NLP Training", 2021: the set-level Dice loss. A smoothing of 1 and
        squares are those of the Dice loss for text that it discusses.

    >>> SetDiceLoss()(torch.tensor([[2.0, 0.0, -2.0], [0.0, 2.0, 0.0]]), torch.tensor([0, 1]))
    tensor(0.0148)
    """

    def __init__(
        self,
        *,
        smooth: NonNegative = 1.0,
        power: Exponent = 2.0,
        ignore_index: int = -100,
        label_smoothing: Fraction = 0.0,
        reduction: SetReduction = "mean",
    ):
        super().__init__(
            smooth=smooth, power=power, ignore_index=ignore_index, label_smoothing=label_smoothing, reduction=reduction
        )
