"""The loss of CLIP: softmax contrast in both directions, with a learned scale."""

import math

import torch
from torch import Tensor, nn

from lossary._core.parameters import Real, Reduction, formula
from lossary._core.registry import objective
from lossary._fast.pairs.tiles import Scores, paired_inputs, softmax_contrast
from lossary.distributed import Group, Ring
from lossary.losses.contrastive._common import TwoViews

LOG_SCALE = -math.log(0.07)


@formula
def clip(a: Tensor, b: Tensor, log_scale: Tensor, *, group: Group = None, reduction: Reduction = "mean") -> Tensor:
    """The pure function behind :class:`CLIPLoss`, with the logarithm of the scale, a scalar."""
    a, b = paired_inputs("clip", a, b)
    scores = Scores(a, b, log_scale, None, Ring("clip", b, group))
    of_rows, of_items = softmax_contrast(scores, both=True, summed=reduction != "none")
    return scores.reduced((of_rows + of_items) / 2, reduction)


@objective(
    family="contrastive",
    function=clip,
    soft_targets=False,
    decomposable=False,
    spatial=False,
    link="scores",
    distributed="inexact",
)
class CLIPLoss(TwoViews):
    r"""The loss of CLIP: softmax contrast in both directions, with a learned scale.

    .. math::
        \ell_i = -\frac12 \log \frac{e^{t s_{ii}}}{\sum_j e^{t s_{ij}}} - \frac12 \log \frac{e^{t s_{ii}}}{\sum_j e^{t s_{ji}}},
        \qquad s_{ij} = \cos(a_i, b_j)

    The scale t is learned by its logarithm, which is a parameter of this loss: give it to the optimizer, without weight decay. CLIP
    keeps t below 100; ``loss.log_scale.data.clamp_(max=math.log(100))`` after each step does it. The baseline of paired losses.
    Widely used programs make the matrix of similarities, twice, and with ``gather_with_grad`` off are no gradient of the whole
    batch over several processes; here no matrix is ever whole, and ``group`` is exact.

    Args:
        init_log_scale: the logarithm of the scale at the start; the default is that of a temperature of 0.07.
        learnable: whether the scale is learned.
        group: the processes whose items are negatives too: None for this one alone, ``"world"``, or a process group. The mean over
            them of the loss and of its gradients is that of one process with the whole batch.
        reduction: as in :class:`torch.nn.CrossEntropyLoss`; ``"none"`` gives the loss of each pair.
    Shape: a and b (N, D), of any length; row i of b belongs to row i of a.
    Units: nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Radford and others, "Learning Transferable Visual Models From Natural Language Supervision", 2021.

    >>> CLIPLoss(init_log_scale=0.0, learnable=False)(torch.eye(2), torch.eye(2))
    tensor(0.3133)
    """

    log_scale: Tensor
    init_log_scale: float

    def __init__(
        self,
        *,
        init_log_scale: Real = LOG_SCALE,
        learnable: bool = True,
        group: Group = None,
        reduction: Reduction = "mean",
    ):
        super().__init__(init_log_scale=init_log_scale, learnable=learnable, group=group, reduction=reduction)
        self.log_scale = nn.Parameter(torch.empty(()), requires_grad=learnable)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.constant_(self.log_scale, self.init_log_scale)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        given = self.hyperparameters()
        return self.function(a, b, self.log_scale, group=given["group"], reduction=given["reduction"])
