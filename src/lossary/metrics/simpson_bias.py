"""Simpson's bias: how far the mean score of single samples is from the score of all of them."""

from typing import Annotated

import torch
from torch import Tensor

from lossary._core.checks import check_class_inputs
from lossary._core.objective import class_indices, widen
from lossary._core.parameters import Interval, NonNegative, checked
from lossary._core.registry import unit
from lossary._core.values import check_indices

Exponent = Annotated[float, Interval(low=1.0)]


@unit(kind="diagnostic", declares={"bounds": (-1.0, 1.0), "perfect": 0.0, "empty": 0.0})
@checked("simpson_bias")
def simpson_bias(
    logits: Tensor, target: Tensor, smooth: NonNegative = 1.0, power: Exponent = 2.0, ignore_index: int = -100
) -> Tensor:
    r"""Simpson's bias of the Dice score: the mean over samples minus the score of the whole.

    .. math::
        \frac{1}{NC} \sum_{n, c} \frac{2 p_{nc} y_{nc} + s}{p_{nc}^r + y_{nc}^r + s}
        - \frac1C \sum_c \frac{2 \sum_n p_{nc} y_{nc} + s}{\sum_n p_{nc}^r + \sum_n y_{nc}^r + s}

    Large where optimising the score sample by sample (``sample_dice``) says little about the score that an evaluation reports
    (``set_dice``): with rare classes a model that never predicts them scores well on nearly every sample.

    Args:
        logits, target: the model's outputs for a whole data set, and its labels.
        smooth: the number s added to both sides of the fraction.
        power: the exponent r in the denominator, at least 1.
        ignore_index: the label of samples that do not count.
    Shape: logits (N, C, \*); target (N, \*) class indices, or (N, C, \*) probabilities; the result is a scalar.
    Units: a difference of scores, in [-1, 1].
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Yuan, Zhang, Huang and Liang, "Simpson's Bias in NLP Training", 2021. Smoothing and power are those of ``set_dice``.

    >>> logits = torch.tensor([[4.0, 0.0]] * 9 + [[4.0, 0.0]])  # never predicts the second class
    >>> simpson_bias(logits, torch.tensor([0] * 9 + [1]))
    tensor(0.2172)
    """
    check_class_inputs("simpson_bias", logits, target, None)
    p = widen(logits).softmax(1).movedim(1, -1).flatten(0, -2)  # (samples, C)
    if target.is_floating_point():
        y = target.to(p.dtype).movedim(1, -1).flatten(0, -2)
    else:
        index, ignored = class_indices(target.flatten(), ignore_index)
        check_indices("simpson_bias", "target", index, "class indices", p.shape[1])
        p = p[~ignored]
        y = torch.nn.functional.one_hot(index[~ignored], p.shape[1]).to(p.dtype)
    if len(p) == 0:
        return p.sum() * 0.0
    both, sizes = 2 * p * y, p.pow(power) + y.pow(power)
    tiny = torch.finfo(p.dtype).tiny  # without smoothing, nothing against nothing scores 0
    of_samples = ((both + smooth) / (sizes + smooth).clamp_min(tiny)).mean()
    of_all = ((both.sum(0) + smooth) / (sizes.sum(0) + smooth).clamp_min(tiny)).mean()
    return of_samples - of_all
