"""ArcFace: normalized softmax in which the right class has to lead by a margin of the angle."""

import math
from typing import Annotated

import torch
from torch import Tensor

from lossary._core.parameters import Fraction, Interval, Positive, PositiveCount, Reduction, Vector, formula
from lossary._core.registry import SpecialCase, objective
from lossary._fast.classes.rule import Rows, average_over_rows
from lossary._fast.pairs.classifiers import average_of_margins, never_whole
from lossary.losses.classification._common import without_ignored
from lossary.losses.classification._embedding import (
    CosineClassifier,
    check_embedding_and_target,
    log_sum_of_others,
    scaled_cosines,
)

Angle = Annotated[float, Interval(low=0.0, high=math.pi)]


@formula
def arcface(
    embedding: Tensor,
    target: Tensor,
    weight: Tensor,
    *,
    scale: Positive = 64.0,
    margin: Angle = 0.5,
    class_weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: Fraction = 0.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`ArcFaceLoss`, with the same parameters and class directions ``weight`` (C, D)."""
    check_embedding_and_target("arcface", embedding, target, weight, class_weight)
    embedding = without_ignored(embedding, target, ignore_index)
    if never_whole(embedding, weight, target, label_smoothing):
        return average_of_margins(
            embedding,
            weight,
            target,
            scale,
            lambda own: with_angular_margin(own, scale, margin),
            class_weight=class_weight,
            ignore_index=ignore_index,
            reduction=reduction,
        )
    last = 2 * scale  # so much lower, every logit is the lowest

    def if_class(row: Rows) -> Tensor:
        own = with_angular_margin(row.logits, scale, margin)
        return torch.nn.functional.softplus(log_sum_of_others(row, last) - own, threshold=40)

    return average_over_rows(
        scaled_cosines(embedding, weight, scale),
        target,
        if_class,
        needs=("logits", "log_p"),
        margin=last,
        weight=class_weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
    )


def with_angular_margin(logits: Tensor, scale: float, margin: float) -> Tensor:
    """s cos(theta + m) from s cos(theta), and s (cos(theta) - m sin(m)) where it would rise again with the angle."""
    cosine = logits / scale
    # at 0 and pi the sine has an infinite slope by the cosine, but the cosine has none by the embedding
    sine = ((1 - cosine) * (1 + cosine)).clamp_min(2e-7).sqrt()
    turned = math.cos(margin) * logits - scale * math.sin(margin) * sine
    return torch.where(cosine > math.cos(math.pi - margin), turned, logits - scale * margin * math.sin(margin))


@objective(
    family="classification",
    function=arcface,
    spatial=False,
    tune={"scale": (5.0, 64.0), "margin": (0.05, 0.6)},
    special_cases=[SpecialCase({"margin": 0.0}, "normalized_softmax", {"scale": 64.0})],
)
class ArcFaceLoss(CosineClassifier):
    r"""ArcFace: normalized softmax in which the angle to the right class has to be smaller by a margin.

    .. math:: \ell(x, y) = -\log \frac{e^{s \cos(\theta_y + m)}}{e^{s \cos(\theta_y + m)} + \sum_{c \ne y} e^{s \cos\theta_c}}

    with the angle theta between the embedding and the direction of a class. A classifier with its own weights. Beyond pi - m, where
    the cosine would rise again with the angle, it is cos theta - m sin m, as in the authors' program: lower by a step, and still
    falling with the angle. The sine is computed without an inverse cosine, and its slope stays finite where an embedding lies
    exactly on its class. A soft target costs the average of the losses of its classes. At test time there is no margin, and
    ``link`` has none.

    Args:
        num_classes: how many classes there are.
        embedding_dim: the width D of the embedding.
        scale: s, the inverse temperature of the cosines.
        margin: m, in radians; 0 is ``normalized_softmax``.
        class_weight: the weights of the classes, ``weight`` in :class:`torch.nn.CrossEntropyLoss`; ``weight`` are the directions.
        ignore_index, label_smoothing, reduction: as in :class:`torch.nn.CrossEntropyLoss`.
    Shape: embedding (N, D); target (N,) class indices, or (N, C) probabilities.
    Units: nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Deng, Guo, Xue and Zafeiriou, "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", 2019.

    >>> loss = ArcFaceLoss(num_classes=2, embedding_dim=2, scale=4.0)
    >>> _ = torch.nn.init.eye_(loss.weight)
    >>> loss(torch.tensor([[3.0, 4.0]]), torch.tensor([1])).detach()
    tensor(1.1317)
    """

    def __init__(
        self,
        *,
        num_classes: PositiveCount,
        embedding_dim: PositiveCount,
        scale: Positive = 64.0,
        margin: Angle = 0.5,
        class_weight: Vector | None = None,
        ignore_index: int = -100,
        label_smoothing: Fraction = 0.0,
        reduction: Reduction = "mean",
    ):
        super().__init__(
            num_classes=num_classes,
            embedding_dim=embedding_dim,
            scale=scale,
            margin=margin,
            class_weight=class_weight,
            ignore_index=ignore_index,
            label_smoothing=label_smoothing,
            reduction=reduction,
        )
