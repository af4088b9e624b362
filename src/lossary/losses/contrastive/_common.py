"""What contrastive losses share: the check of a pair of views, and the base of those that take nothing but two views."""

from torch import Tensor

from lossary._core.objective import Objective, widen
from lossary._fast.pairs.rule import unit


def squares_on_the_sphere(a: Tensor, b: Tensor) -> Tensor:
    """2 - 2 cos of each row of a (*, D) with that of b (*, D), both of length one or 0; as exact for rows that are nearly alike."""
    without = (~a.any(-1)).to(a.dtype) + (~b.any(-1)).to(a.dtype)  # a row of zeros has a cosine of 0
    return (a - b).square().sum(-1) + without


def direction(output: Tensor) -> Tensor:
    """The link of losses of cosines: an embedding stands for its direction."""
    return unit(widen(output)).to(output.dtype)


class TwoViews(Objective):
    """Two views of the same samples, ``loss(a, b)``, which are compared by their directions."""

    consumes = "embedding"

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Compute the loss of two views a and b (N, D), whose rows are pairs."""
        return self.function(a, b, **self.hyperparameters())

    def link(self, output: Tensor) -> Tensor:
        return direction(output)
