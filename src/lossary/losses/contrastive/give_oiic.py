"""Object-focused image-image contrast: images that show one object attract each other."""

import torch
from torch import Tensor

from lossary._core.checks import check_integers, check_shape, check_vectors
from lossary._core.objective import Objective, reduce, widen
from lossary._core.parameters import Positive, SetReduction, formula
from lossary._core.registry import objective
from lossary._fast.pairs.rule import Pairs, against_all, log_sum_exp, sum_over_rows, unit
from lossary.distributed import Group, Ring, total
from lossary.losses.contrastive._common import direction


@formula
def give_oiic(
    image: Tensor,
    object_id: Tensor,
    *,
    temperature: Positive = 0.07,
    group: Group = None,
    reduction: SetReduction = "mean",
) -> Tensor:
    """The pure function behind :class:`GiveOIICLoss`, with the same parameters."""
    check_vectors("give_oiic", image, "image")
    check_integers("give_oiic", "object_id", object_id)
    check_shape("give_oiic", "object_id", object_id, (image.shape[0],))

    def row(c: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
        z, positives = c / temperature, pairs.positive.sum(1)
        has = positives > 0  # an image without another one of its object is left out
        own = torch.where(pairs.positive, z, 0.0).sum(1) / positives.clamp_min(1)
        others = log_sum_exp(z, ~pairs.itself | ~has[:, None])
        return torch.where(has, others - own, 0.0), has.to(z.dtype)

    found = sum_over_rows(row, **against_all("give_oiic", unit(widen(image)), labels=object_id, group=group))
    value, anchors = (total("give_oiic", x, group) for x in found)
    mean = reduce(value, anchors, "mean")
    return mean * Ring("give_oiic", image, group).total if reduction == "sum" else mean


@objective(
    family="contrastive",
    function=give_oiic,
    soft_targets=False,
    decomposable=False,
    spatial=False,
    link="scores",
    distributed="inexact",
    tune={"temperature": (0.02, 0.5)},
)
class GiveOIICLoss(Objective):
    r"""Object-focused image-image contrast (OIIC): images that show one object attract each other.

    .. math::
        L = \frac{1}{|A|} \sum_{i \in A} -\frac{1}{|P_i|} \sum_{j \in P_i} \log
            \frac{e^{\cos(v_i, v_j) / \tau}}{\sum_{k \ne i} e^{\cos(v_i, v_k) / \tau}}

    v is an image's feature, focused on an object by an instruction; P_i are the other images of object i, and A the images that
    have any. Without such an image the loss is 0, with a gradient of zeros. The pairs are seen in blocks and never held whole.

    Args:
        temperature: the temperature tau.
        group: the processes whose samples are items too: None for this one alone, ``"world"``, or a process group. The mean over
            them of the loss and of its gradients is that of one process with the whole batch.
        reduction: ``"mean"`` over the images that have a positive, or ``"sum"``, which is it times N.
    Shape: image (N, D), of any length; object_id (N,) int64.
    Units: nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Li et al., "GiVE: Guiding Visual Encoder to Perceive Overlooked Information", 2024. The exact form is a reading of what
        the paper says its parts are for.

    >>> image = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
    >>> loss = GiveOIICLoss(temperature=0.5)
    >>> loss(image, torch.tensor([0, 1, 1])), loss(image, torch.tensor([0, 1, 2]))
    (tensor(0.2176), tensor(0.))
    """

    consumes = "embedding"

    def __init__(self, *, temperature: Positive = 0.07, group: Group = None, reduction: SetReduction = "mean"):
        super().__init__(temperature=temperature, group=group, reduction=reduction)

    def forward(self, image: Tensor, object_id: Tensor) -> Tensor:
        return self.function(image, object_id, **self.hyperparameters())

    def link(self, output: Tensor) -> Tensor:
        return direction(output)
