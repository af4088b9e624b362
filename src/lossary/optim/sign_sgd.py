"""Sign descent: only the direction of each coordinate of the gradient counts."""

from torch import Tensor
from torch.optim.optimizer import ParamsT

from lossary._core.parameters import Fraction, NonNegative, checked
from lossary._core.registry import unit
from lossary.optim._common import TransformedGradient, signs


@unit(kind="optimizer", name="sign_sgd", declares={"weight_decay": "decoupled"})
class SignSGD(TransformedGradient):
    r"""Sign descent: every coordinate moves by the same amount, whatever the size of its gradient.

    .. math:: b_{t+1} = m\,b_t + \mathrm{sign}(g_t), \qquad \theta_{t+1} = \theta_t - \eta\,b_{t+1}

    Coordinates with rare gradients (the rows of infrequent words) move as fast as the others, which is why it keeps up with Adam
    where classes are heavy-tailed. The momentum is that of the signs, in the order of the authors' program; the sign of a
    momentum (signum, Lion) is another method. A gradient of exactly zero, as for rows of an embedding that did not occur, moves
    nothing.

    Args:
        params: parameters, or groups of them with their own options.
        lr: the step size, which is how far each coordinate moves.
        momentum: the share of the last step that is repeated.
        weight_decay: decoupled; inside of the gradient it would change its sign.
    Shape: dense real gradients of any shape.
    Errors: a sparse gradient, a complex parameter, or an option outside its range is a ``LossaryError``.
    Source: Kunstner, Yadav, Milligan, Schmidt and Bietti, "Heavy-Tailed Class Imbalance and Why Adam Outperforms Gradient Descent
        on Language Models", 2024: sign descent as used there.

    >>> weight = torch.tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer = SignSGD([weight], lr=0.1)
    >>> (weight * torch.tensor([100.0, -0.001])).sum().backward()
    >>> optimizer.step()
    >>> weight.detach()
    tensor([ 0.9000, -1.9000])
    """

    name = "sign_sgd"

    @checked("sign_sgd")
    def __init__(self, params: ParamsT, lr: NonNegative, momentum: Fraction = 0.0, weight_decay: NonNegative = 0.0):
        super().__init__(params, lr, momentum, weight_decay)

    def directions(self, gradients: list[Tensor]) -> tuple[list[Tensor], Tensor | None]:
        return signs(gradients), None
