"""Several projection heads side by side."""

import math

import torch
from torch import Tensor, nn

from lossary._core.checks import check_floating, shape_text
from lossary._core.parameters import PositiveCount, checked
from lossary._core.registry import unit
from lossary.errors import InvalidValueError


@unit(kind="layer", name="multi_head_projector")
class MultiHeadProjector(nn.Module):
    r"""Several projection heads of one hidden layer each, computed together.

    .. math:: z_c = W_c \max(0, V_c x + a_c) + b_c, \qquad c = 1, \ldots, C

    The heads share no weights. Their first layers are one matrix product, their second layers one batched product.

    Args:
        in_dim: the size of a feature.
        out_dim: the size of each head's projection.
        num_heads: how many heads there are.
        hidden_dim: the width of each head's hidden layer; ``in_dim`` if None.
    Shape: features (N, in_dim); the result is (N, num_heads, out_dim), as :class:`lossary.losses.AmclLoss` takes it.
    Errors: features of another shape or dtype, or sizes that are not positive integers, are a ``LossaryError``.
    Source: Wang, Koniusz, Gedeon and Zheng, "Adaptive Multi-head Contrastive Learning", 2023. The width of the hidden layers is
        not said; that of the features is taken, without batch normalisation.

    >>> MultiHeadProjector(in_dim=8, out_dim=4, num_heads=3)(torch.zeros(5, 8)).shape
    torch.Size([5, 3, 4])
    """

    @checked("multi_head_projector")
    def __init__(
        self, in_dim: PositiveCount, out_dim: PositiveCount, num_heads: PositiveCount = 3, hidden_dim: PositiveCount | None = None
    ):
        super().__init__()
        self.in_dim, self.out_dim, self.num_heads = in_dim, out_dim, num_heads
        self.hidden_dim = in_dim if hidden_dim is None else hidden_dim
        self.first = nn.Linear(in_dim, num_heads * self.hidden_dim)
        self.weight = nn.Parameter(torch.empty(num_heads, self.hidden_dim, out_dim))
        self.bias = nn.Parameter(torch.empty(num_heads, 1, out_dim))
        self._reset_own()

    def reset_parameters(self) -> None:
        """Draw all weights anew; the second layers begin as ``nn.Linear(hidden_dim, out_dim)``."""
        self.first.reset_parameters()
        self._reset_own()

    def _reset_own(self) -> None:
        bound = 1 / math.sqrt(self.hidden_dim)
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, features: Tensor) -> Tensor:
        check_floating("multi_head_projector", "features", features)
        if features.ndim != 2 or features.shape[1] != self.in_dim:
            given = shape_text(tuple(features.shape))
            raise InvalidValueError(f"multi_head_projector: features must have shape (N, {self.in_dim}), got {given}")
        hidden = self.first(features).relu().unflatten(1, (self.num_heads, self.hidden_dim)).transpose(0, 1)
        return torch.baddbmm(self.bias, hidden, self.weight).transpose(0, 1)

    def extra_repr(self) -> str:
        return f"in_dim={self.in_dim}, out_dim={self.out_dim}, num_heads={self.num_heads}, hidden_dim={self.hidden_dim}"
