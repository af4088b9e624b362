"""Object-focused image discrimination: do two images show one object?"""

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from lossary._core.checks import check_integers, check_shape, check_vectors
from lossary._core.objective import Objective, widen
from lossary._core.parameters import Real, SetReduction, formula
from lossary._core.registry import objective
from lossary._fast.pairs.rule import Pairs, against_all, sum_over_rows, unit
from lossary.distributed import Group, Ring
from lossary.losses.contrastive._common import direction


@formula
def give_oid(
    image: Tensor,
    object_id: Tensor,
    scale: Tensor,
    bias: Tensor,
    *,
    group: Group = None,
    reduction: SetReduction = "mean",
) -> Tensor:
    """The pure function behind :class:`GiveOIDLoss`: ``scale`` and ``bias`` are its parameters, numbers without dimensions."""
    check_vectors("give_oid", image, "image")
    check_integers("give_oid", "object_id", object_id)
    check_shape("give_oid", "object_id", object_id, (image.shape[0],))

    def row(c: Tensor, pairs: Pairs, scale: Tensor, bias: Tensor) -> tuple[Tensor]:
        u = scale * c + bias
        return (torch.where(pairs.itself, 0.0, softplus(torch.where(pairs.same, -u, u))).sum(1),)

    v, ring = unit(widen(image)), Ring("give_oid", image, group)
    given = against_all("give_oid", v, labels=object_id, group=group)
    (found,) = sum_over_rows(row, **given, parameters=(scale.to(v.dtype), bias.to(v.dtype)))
    return ring.reduced(found / max(ring.total - 1, 1), reduction)  # each pair twice, in both orders


@objective(
    family="contrastive",
    function=give_oid,
    soft_targets=False,
    decomposable=False,
    spatial=False,
    link="scores",
    distributed="inexact",
)
class GiveOIDLoss(Objective):
    r"""Object-focused image discrimination (OID): tells for each pair of images whether both show one object.

    .. math::
        L = \frac{2}{N (N - 1)} \sum_{i < j} -\log \sigma(\pm u_{ij}), \qquad u_{ij} = s \cos(v_i, v_j) + b

    The sign is plus where both images show one object. The scale s and the bias b are learned: give the loss's ``parameters()`` to
    the optimizer, without weight decay. One image alone has no pair, and a loss of 0 with a gradient of zeros. The pairs are seen
    in blocks and never held whole.

    Args:
        init_scale: what the scale starts from.
        init_bias: what the bias starts from.
        group: the processes whose samples are items too: None for this one alone, ``"world"``, or a process group. The mean over
            them of the loss and of its gradients is that of one process with the whole batch.
        reduction: ``"mean"`` over the pairs, or ``"sum"``, which is it times N.
    Shape: image (N, D), of any length; object_id (N,) int64.
    Units: nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Li et al., "GiVE: Guiding Visual Encoder to Perceive Overlooked Information", 2024. The exact form is a reading of what
        the paper says its parts are for; the authors may use a head of its own and pick hard negatives.

    >>> image = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
    >>> GiveOIDLoss()(image, torch.tensor([0, 1, 1]))
    tensor(0.4624, grad_fn=<DivBackward0>)
    """

    consumes = "embedding"
    scale: Tensor
    bias: Tensor
    init_scale: float
    init_bias: float

    def __init__(self, *, init_scale: Real = 10.0, init_bias: Real = 0.0, group: Group = None, reduction: SetReduction = "mean"):
        super().__init__(init_scale=init_scale, init_bias=init_bias, group=group, reduction=reduction)
        self.scale = nn.Parameter(torch.empty(()))
        self.bias = nn.Parameter(torch.empty(()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.constant_(self.scale, self.init_scale)
        nn.init.constant_(self.bias, self.init_bias)

    def forward(self, image: Tensor, object_id: Tensor) -> Tensor:
        parameters = self.hyperparameters()
        del parameters["init_scale"], parameters["init_bias"]
        return self.function(image, object_id, self.scale, self.bias, **parameters)

    def link(self, output: Tensor) -> Tensor:
        return direction(output)
