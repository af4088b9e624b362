"""Sign descent with the gradient's own length: steepest descent in the maximum norm."""

from torch import Tensor
from torch.optim.optimizer import ParamsT

from lossary._core.parameters import Fraction, NonNegative, checked
from lossary._core.registry import unit
from lossary.optim._common import TransformedGradient, absolute_sum, signs


@unit(kind="optimizer", name="rescaled_sign_sgd", declares={"weight_decay": "decoupled"})
class RescaledSignSGD(TransformedGradient):
    r"""Sign descent whose steps shrink with the gradient: steepest descent in the maximum norm.

    .. math:: b_{t+1} = m\,b_t + \lVert g_t \rVert_1\,\mathrm{sign}(g_t), \qquad \theta_{t+1} = \theta_t - \eta\,b_{t+1}

    with one norm over all parameters of all groups together. Unlike sign descent it settles without a decaying step size.

    Args:
        params: parameters, or groups of them with their own options.
        lr: the step size; as the norm is a sum over all parameters it is much smaller than that of gradient descent.
        momentum: the share of the last step that is repeated.
        weight_decay: decoupled; inside of the gradient it would change its sign.
    Shape: dense real gradients of any shape.
    Errors: a sparse gradient, a complex parameter, or an option outside its range is a ``LossaryError``.
    Source: Kunstner, Yadav, Milligan, Schmidt and Bietti, "Heavy-Tailed Class Imbalance and Why Adam Outperforms Gradient Descent
        on Language Models", 2024: rescaled sign descent as used there.

    >>> weight = torch.tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer = RescaledSignSGD([weight], lr=0.1)
    >>> (weight * torch.tensor([3.0, -1.0])).sum().backward()
    >>> optimizer.step()
    >>> weight.detach()
    tensor([ 0.6000, -1.6000])
    """

    name = "rescaled_sign_sgd"

    @checked("rescaled_sign_sgd")
    def __init__(self, params: ParamsT, lr: NonNegative, momentum: Fraction = 0.0, weight_decay: NonNegative = 0.0):
        super().__init__(params, lr, momentum, weight_decay)

    def directions(self, gradients: list[Tensor]) -> tuple[list[Tensor], Tensor | None]:
        return signs(gradients), absolute_sum(gradients)
