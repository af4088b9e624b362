"""InfoNCE: each row against all items, by a softmax with a fixed temperature."""

import math

from torch import Tensor

from lossary._core.parameters import Positive, Reduction, formula
from lossary._core.registry import objective
from lossary._fast.pairs.tiles import Scores, paired_inputs, softmax_contrast
from lossary.distributed import Group, Ring
from lossary.losses.contrastive._common import TwoViews


@formula
def info_nce(a: Tensor, b: Tensor, *, temperature: Positive = 0.07, group: Group = None, reduction: Reduction = "mean") -> Tensor:
    """The pure function behind :class:`InfoNCELoss`, with the same parameters."""
    a, b = paired_inputs("info_nce", a, b)
    scores = Scores(a, b, a.new_tensor(-math.log(temperature)), None, Ring("info_nce", b, group))
    (found,) = softmax_contrast(scores, both=False, summed=reduction != "none")
    return scores.reduced(found, reduction)


@objective(
    family="contrastive",
    function=info_nce,
    soft_targets=False,
    decomposable=False,
    spatial=False,
    link="scores",
    distributed="inexact",
    tune={"temperature": (0.02, 1.0)},
)
class InfoNCELoss(TwoViews):
    r"""InfoNCE: each row against all items, by a softmax with a fixed temperature.

    .. math:: \ell_i = -\log \frac{e^{s_{ii} / \tau}}{\sum_j e^{s_{ij} / \tau}}, \qquad s_{ij} = \cos(a_i, b_j)

    The derivative by a negative similarity is its softmax over the temperature, so that a small temperature pushes away the
    nearest negatives only, and a large one all alike. One direction: rows ``a`` look for their items ``b``; ``clip`` averages both.
    No matrix of similarities is ever whole: memory grows with the rows.

    Args:
        temperature: the temperature tau, above 0.
        group: the processes whose items are negatives too: None for this one alone, ``"world"``, or a process group. The mean over
            them of the loss and of its gradients is that of one process with the whole batch.
        reduction: as in :class:`torch.nn.CrossEntropyLoss`; ``"none"`` gives the loss of each row.
    Shape: a and b (N, D), of any length; row i of b belongs to row i of a.
    Units: nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Wang and Liu, "Understanding the Behaviour of Contrastive Loss", 2021; first van den Oord, Li and Vinyals, 2018.

    >>> InfoNCELoss(temperature=1.0)(torch.eye(2), torch.eye(2))
    tensor(0.3133)
    """

    def __init__(self, *, temperature: Positive = 0.07, group: Group = None, reduction: Reduction = "mean"):
        super().__init__(temperature=temperature, group=group, reduction=reduction)
