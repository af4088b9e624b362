"""Object-focused image-text contrast: every text of the same object is a positive."""

import torch
from torch import Tensor

from lossary._core.checks import check_integers, check_pair, check_shape
from lossary._core.objective import Objective, widen
from lossary._core.parameters import Positive, SetReduction, formula
from lossary._core.registry import objective
from lossary._fast.pairs.rule import Pairs, against_all, log_sum_exp, sum_over_rows, unit
from lossary.distributed import Group, Ring
from lossary.losses.contrastive._common import direction


@formula
def give_oitc(
    image: Tensor,
    text: Tensor,
    object_id: Tensor,
    *,
    temperature: Positive = 0.07,
    group: Group = None,
    reduction: SetReduction = "mean",
) -> Tensor:
    """The pure function behind :class:`GiveOITCLoss`, with the same parameters."""
    check_pair("give_oitc", image, text, "image", "text")
    check_integers("give_oitc", "object_id", object_id)
    check_shape("give_oitc", "object_id", object_id, (image.shape[0],))

    def row(c: Tensor, pairs: Pairs) -> tuple[Tensor]:
        z = c / temperature
        return (log_sum_exp(z) - torch.where(pairs.same, z, 0.0).sum(1) / pairs.same.sum(1),)

    v, t = unit(widen(image)), unit(widen(text))
    (of_images,) = sum_over_rows(row, **against_all("give_oitc", v, t, object_id, group))
    (of_texts,) = sum_over_rows(row, **against_all("give_oitc", t, v, object_id, group))
    return Ring("give_oitc", image, group).reduced((of_images + of_texts) / 2, reduction)


@objective(
    family="contrastive",
    function=give_oitc,
    soft_targets=False,
    decomposable=False,
    spatial=False,
    link="scores",
    distributed="inexact",
    tune={"temperature": (0.02, 0.5)},
)
class GiveOITCLoss(Objective):
    r"""Object-focused image-text contrast (OITC): every text of the same object is a positive.

    .. math::
        L = \frac{1}{2N} \sum_i \left[ -\frac{1}{|P_i|} \sum_{j \in P_i} \log
            \frac{e^{\cos(v_i, t_j) / \tau}}{\sum_k e^{\cos(v_i, t_k) / \tau}}
            -\frac{1}{|P_i|} \sum_{j \in P_i} \log \frac{e^{\cos(t_i, v_j) / \tau}}{\sum_k e^{\cos(t_i, v_k) / \tau}} \right]

    v is an image's feature, focused on an object by an instruction, t the feature of that object's text, and P_i the samples of
    object i. Where all objects of a batch differ it is the symmetric loss of CLIP; that one would push apart the texts of the same
    object. The pairs are seen in blocks and never held whole.

    Args:
        temperature: the temperature tau.
        group: the processes whose samples are items too: None for this one alone, ``"world"``, or a process group. The mean over
            them of the loss and of its gradients is that of one process with the whole batch.
        reduction: ``"mean"`` over the samples, or ``"sum"``.
    Shape: image and text (N, D), of any length; object_id (N,) int64.
    Units: nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Li et al., "GiVE: Guiding Visual Encoder to Perceive Overlooked Information", 2024. The exact form is a reading of what
        the paper says its parts are for.

    >>> image, text = torch.eye(3), torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
    >>> loss = GiveOITCLoss(temperature=0.5)
    >>> loss(image, text, torch.tensor([0, 1, 2])), loss(image, text, torch.tensor([0, 1, 1]))
    (tensor(0.4081), tensor(0.7414))
    """

    consumes = "embedding"
    requires = ("object_id",)

    def __init__(self, *, temperature: Positive = 0.07, group: Group = None, reduction: SetReduction = "mean"):
        super().__init__(temperature=temperature, group=group, reduction=reduction)

    def forward(self, image: Tensor, text: Tensor, object_id: Tensor) -> Tensor:
        return self.function(image, text, object_id, **self.hyperparameters())

    def link(self, output: Tensor) -> Tensor:
        return direction(output)
