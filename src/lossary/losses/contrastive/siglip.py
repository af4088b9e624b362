"""SigLIP: every pair of a batch is a yes-or-no question of its own."""

import math

import torch
from torch import Tensor, nn

from lossary._core.parameters import PositiveCount, Real, Reduction, formula
from lossary._core.registry import objective
from lossary._fast.pairs.tiles import Scores, paired_inputs, sigmoid_contrast
from lossary.distributed import Group, Ring
from lossary.losses.contrastive._common import TwoViews

LOG_SCALE = math.log(10)


@formula
def siglip(
    a: Tensor,
    b: Tensor,
    log_scale: Tensor,
    bias: Tensor,
    *,
    chunks: PositiveCount = 1,
    group: Group = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`SigLIPLoss`, with the logarithm of the scale and the bias, scalars."""
    a, b = paired_inputs("siglip", a, b)
    scores = Scores(a, b, log_scale, bias, Ring("siglip", b, group), columns=math.ceil(len(b) / chunks))
    return scores.reduced(sigmoid_contrast(scores, summed=reduction != "none"), reduction)


@objective(
    family="contrastive",
    function=siglip,
    soft_targets=False,
    decomposable=False,
    spatial=False,
    link="scores",
    distributed="inexact",
)
class SigLIPLoss(TwoViews):
    r"""SigLIP: every pair of a batch is a yes-or-no question of its own.

    .. math::
        \ell_i = -\log \sigma(t s_{ii} + \beta) - \sum_{j \ne i} \log \sigma(-t s_{ij} - \beta), \qquad s_{ij} = \cos(a_i, b_j)

    The mean is over the N rows, not over the N x N pairs. There is no softmax, so that no row has to be seen whole: over several
    processes each adds the blocks of items that come by, as the paper does it. The logarithm of the scale t, and the bias, are
    parameters of this loss: give them to the optimizer, without weight decay. They start so that a pair is a no unless shown
    otherwise.

    Args:
        init_log_scale, init_bias: where the logarithm of the scale and the bias start.
        learnable: whether both are learned.
        chunks: take the items in at least this many parts. Blocks are small in any case; the value does not depend on it.
        group: the processes whose items are negatives too: None for this one alone, ``"world"``, or a process group. The mean over
            them of the loss and of its gradients is that of one process with the whole batch, so all have to weigh the loss alike.
        reduction: as in :class:`torch.nn.CrossEntropyLoss`; ``"none"`` gives the loss of each row.
    Shape: a and b (N, D), of any length; row i of b belongs to row i of a.
    Units: nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Zhai, Mustafa, Kolesnikov and Beyer, "Sigmoid Loss for Language Image Pre-Training", 2023.

    >>> SigLIPLoss(learnable=False)(torch.eye(2), torch.eye(2))
    tensor(0.6932)
    """

    log_scale: Tensor
    bias: Tensor
    init_log_scale: float
    init_bias: float

    def __init__(
        self,
        *,
        init_log_scale: Real = LOG_SCALE,
        init_bias: Real = -10.0,
        learnable: bool = True,
        chunks: PositiveCount = 1,
        group: Group = None,
        reduction: Reduction = "mean",
    ):
        super().__init__(
            init_log_scale=init_log_scale,
            init_bias=init_bias,
            learnable=learnable,
            chunks=chunks,
            group=group,
            reduction=reduction,
        )
        self.log_scale = nn.Parameter(torch.empty(()), requires_grad=learnable)
        self.bias = nn.Parameter(torch.empty(()), requires_grad=learnable)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.constant_(self.log_scale, self.init_log_scale)
        nn.init.constant_(self.bias, self.init_bias)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        given = self.hyperparameters()
        shared = {name: given[name] for name in ("chunks", "group", "reduction")}
        return self.function(a, b, self.log_scale, self.bias, **shared)
