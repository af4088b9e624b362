"""GiVE: three object-focused losses together."""

import torch
from torch import Tensor, nn

from lossary._core.checks import check_integers, check_pair, check_shape
from lossary._core.objective import Objective, widen
from lossary._core.parameters import NonNegative, Positive, Real, SetReduction, formula
from lossary._core.registry import SpecialCase, objective
from lossary.distributed import Group
from lossary.losses.contrastive._common import direction
from lossary.losses.contrastive.give_oid import give_oid
from lossary.losses.contrastive.give_oiic import give_oiic
from lossary.losses.contrastive.give_oitc import give_oitc


@formula
def give(
    image: Tensor,
    text: Tensor,
    object_id: Tensor,
    scale: Tensor,
    bias: Tensor,
    *,
    temperature: Positive = 0.07,
    oiic_weight: NonNegative = 1.0,
    oid_weight: NonNegative = 1.0,
    group: Group = None,
    reduction: SetReduction = "mean",
) -> Tensor:
    """The pure function behind :class:`GiveLoss`: ``scale`` and ``bias`` are its parameters, numbers without dimensions."""
    check_pair("give", image, text, "image", "text")
    check_integers("give", "object_id", object_id)
    check_shape("give", "object_id", object_id, (image.shape[0],))
    image, text = widen(image), widen(text)  # once, so that the gradients of the parts are added up in float32
    loss = give_oitc(image, text, object_id, temperature=temperature, group=group, reduction=reduction)
    if oiic_weight > 0:
        loss = loss + oiic_weight * give_oiic(image, object_id, temperature=temperature, group=group, reduction=reduction)
    if oid_weight > 0:
        loss = loss + oid_weight * give_oid(image, object_id, scale, bias, group=group, reduction=reduction)
    return loss


@objective(
    family="contrastive",
    function=give,
    soft_targets=False,
    decomposable=False,
    spatial=False,
    link="scores",
    distributed="inexact",
    special_cases=(SpecialCase({"oiic_weight": 0.0, "oid_weight": 0.0}, "give_oitc"),),
    tune={"temperature": (0.02, 0.5)},
)
class GiveLoss(Objective):
    r"""GiVE: match the object's text, pull together the images that show it, and tell whether two images share it.

    .. math:: L = L_{\mathrm{OITC}} + \lambda_1 L_{\mathrm{OIIC}} + \lambda_2 L_{\mathrm{OID}}

    The parts are :class:`GiveOITCLoss`, :class:`GiveOIICLoss` and :class:`GiveOIDLoss`. An image's feature is focused on an object
    by an instruction, so that an encoder learns not to overlook what is small or in the background. The scale and the bias of the
    last part are learned: give the loss's ``parameters()`` to the optimizer, without weight decay.

    Args:
        temperature: the temperature of both contrasts.
        oiic_weight: the weight of the contrast among images.
        oid_weight: the weight of the discrimination.
        init_scale, init_bias: what scale and bias of the discrimination start from.
        group: the processes whose samples are items too: None for this one alone, ``"world"``, or a process group. The mean over
            them of the loss and of its gradients is that of one process with the whole batch.
        reduction: ``"mean"``, or ``"sum"``, which is it times N.
    Shape: image and text (N, D), of any length; object_id (N,) int64.
    Units: nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Li et al., "GiVE: Guiding Visual Encoder to Perceive Overlooked Information", 2024. The exact form is a reading of what
        the paper says its parts are for, and so are the weights of 1.

    >>> image, text = torch.eye(3), torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
    >>> GiveLoss(temperature=0.5)(image, text, torch.tensor([0, 1, 1]))
    tensor(2.1277, grad_fn=<AddBackward0>)
    """

    consumes = "embedding"
    requires = ("object_id",)
    scale: Tensor
    bias: Tensor
    init_scale: float
    init_bias: float

    def __init__(
        self,
        *,
        temperature: Positive = 0.07,
        oiic_weight: NonNegative = 1.0,
        oid_weight: NonNegative = 1.0,
        init_scale: Real = 10.0,
        init_bias: Real = 0.0,
        group: Group = None,
        reduction: SetReduction = "mean",
    ):
        super().__init__(
            temperature=temperature,
            oiic_weight=oiic_weight,
            oid_weight=oid_weight,
            init_scale=init_scale,
            init_bias=init_bias,
            group=group,
            reduction=reduction,
        )
        self.scale = nn.Parameter(torch.empty(()))
        self.bias = nn.Parameter(torch.empty(()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.constant_(self.scale, self.init_scale)
        nn.init.constant_(self.bias, self.init_bias)

    def forward(self, image: Tensor, text: Tensor, object_id: Tensor) -> Tensor:
        parameters = self.hyperparameters()
        del parameters["init_scale"], parameters["init_bias"]
        return self.function(image, text, object_id, self.scale, self.bias, **parameters)

    def link(self, output: Tensor) -> Tensor:
        return direction(output)
