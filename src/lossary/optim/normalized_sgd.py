"""Normalized gradient descent: steps of one length."""

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from lossary._core.parameters import Fraction, NonNegative, checked
from lossary._core.registry import unit
from lossary.optim._common import TransformedGradient, euclidean_norm


@unit(kind="optimizer", name="normalized_sgd", declares={"weight_decay": "decoupled"})
class NormalizedSGD(TransformedGradient):
    r"""Normalized gradient descent: the direction of the gradient, and none of its length.

    .. math:: b_{t+1} = m\,b_t + \frac{g_t}{\lVert g_t \rVert_2}, \qquad \theta_{t+1} = \theta_t - \eta\,b_{t+1}

    with one norm over all parameters of all groups together (many programs normalise layer by layer, which is another method). A
    gradient of zero moves nothing.

    Args:
        params: parameters, or groups of them with their own options.
        lr: the step size, which is the length of a step.
        momentum: the share of the last step that is repeated.
        weight_decay: decoupled; inside of the gradient it would change its direction.
    Shape: dense real gradients of any shape.
    Errors: a sparse gradient, a complex parameter, or an option outside its range is a ``LossaryError``.
    Source: Kunstner, Yadav, Milligan, Schmidt and Bietti, "Heavy-Tailed Class Imbalance and Why Adam Outperforms Gradient Descent
        on Language Models", 2024: normalized gradient descent as used there.

    >>> weight = torch.tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer = NormalizedSGD([weight], lr=0.1)
    >>> (weight * torch.tensor([300.0, -400.0])).sum().backward()
    >>> optimizer.step()
    >>> weight.detach()
    tensor([ 0.9400, -1.9200])
    """

    name = "normalized_sgd"

    @checked("normalized_sgd")
    def __init__(self, params: ParamsT, lr: NonNegative, momentum: Fraction = 0.0, weight_decay: NonNegative = 0.0):
        super().__init__(params, lr, momentum, weight_decay)

    def directions(self, gradients: list[Tensor]) -> tuple[list[Tensor], Tensor | None]:
        norm = euclidean_norm(gradients)
        return gradients, torch.where(norm > 0, 1 / norm, torch.zeros_like(norm))
