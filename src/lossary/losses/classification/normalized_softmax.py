"""Normalized softmax: cross-entropy of cosines, with embeddings and class weights on the sphere."""

import math

import torch
from torch import Tensor, nn

from lossary._core.parameters import Fraction, Positive, PositiveCount, Reduction, Vector, formula
from lossary._core.registry import objective
from lossary._fast.classes.rule import Rows, average_over_rows
from lossary._fast.pairs.classifiers import average_of_margins, never_whole
from lossary.losses.classification._common import without_ignored
from lossary.losses.classification._embedding import (
    CosineClassifier,
    check_embedding,
    check_embedding_and_target,
    scaled_cosines,
)


@formula
def normalized_softmax(
    embedding: Tensor,
    target: Tensor,
    weight: Tensor,
    log_scale: Tensor | None = None,
    *,
    scale: Positive = 20.0,
    class_weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: Fraction = 0.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`NormalizedSoftmaxLoss`, with class directions ``weight`` (C, D), and ``log_scale`` in the
    place of ``scale`` if it is learned."""
    check_embedding_and_target("normalized_softmax", embedding, target, weight, class_weight)
    embedding = without_ignored(embedding, target, ignore_index)
    factor = scale if log_scale is None else log_scale.exp()
    if never_whole(embedding, weight, target, label_smoothing):
        return average_of_margins(
            embedding,
            weight,
            target,
            factor,
            lambda own: own,
            class_weight=class_weight,
            ignore_index=ignore_index,
            reduction=reduction,
        )

    def if_class(row: Rows) -> Tensor:
        return -row.log_p

    return average_over_rows(
        scaled_cosines(embedding, weight, factor),
        target,
        if_class,
        weight=class_weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
    )


@objective(
    family="classification",
    function=normalized_softmax,
    proper=True,
    spatial=False,
    tune={"scale": (5.0, 64.0)},
)
class NormalizedSoftmaxLoss(CosineClassifier):
    r"""Normalized softmax: cross-entropy of the cosines between an embedding and one direction for each class.

    .. math:: \ell(x, y) = -\log \frac{e^{s \cos(x, w_y)}}{\sum_c e^{s \cos(x, w_c)}}

    A classifier with its own weights that learns an embedding without sampling pairs: what is of one class points one way, and
    classes that were not there in training are told apart by the mean direction of a few examples, ``lossary.nn.NearestPrototype``.
    Lengths do not count, neither of embeddings nor of weights, so that weight decay only changes how fast directions turn. The loss
    cannot fall below log(1 + (C - 1) exp(-s C / (C - 1))); with many classes a small scale cannot come near 0.

    Args:
        num_classes: how many classes there are.
        embedding_dim: the width D of the embedding.
        scale: s, the inverse temperature of the cosines.
        learnable_scale: whether the scale is learned, from ``scale`` on, as the parameter ``log_scale``.
        class_weight: the weights of the classes, ``weight`` in :class:`torch.nn.CrossEntropyLoss`; ``weight`` are the directions.
        ignore_index, label_smoothing, reduction: as in :class:`torch.nn.CrossEntropyLoss`.
    Shape: embedding (N, D); target (N,) class indices, or (N, C) probabilities.
    Units: nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Pereira, Joly, Valduriez and Porto, "Hyperspherical embedding for novel class classification", 2021. The paper's own
        scale is not certain; 20 is taken.

    >>> loss = NormalizedSoftmaxLoss(num_classes=2, embedding_dim=2, scale=4.0)
    >>> _ = torch.nn.init.eye_(loss.weight)
    >>> loss(torch.tensor([[3.0, 4.0]]), torch.tensor([1])).detach()
    tensor(0.3711)
    """

    def __init__(
        self,
        *,
        num_classes: PositiveCount,
        embedding_dim: PositiveCount,
        scale: Positive = 20.0,
        learnable_scale: bool = False,
        class_weight: Vector | None = None,
        ignore_index: int = -100,
        label_smoothing: Fraction = 0.0,
        reduction: Reduction = "mean",
    ):
        super().__init__(
            num_classes=num_classes,
            embedding_dim=embedding_dim,
            scale=scale,
            learnable_scale=learnable_scale,
            class_weight=class_weight,
            ignore_index=ignore_index,
            label_smoothing=label_smoothing,
            reduction=reduction,
        )
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale))) if learnable_scale else None

    def reset_parameters(self) -> None:
        super().reset_parameters()
        if self.log_scale is not None:
            nn.init.constant_(self.log_scale, math.log(self.scale))

    def forward(self, embedding: Tensor, target: Tensor) -> Tensor:
        parameters = self.hyperparameters()
        for name in ("num_classes", "embedding_dim", "learnable_scale"):
            del parameters[name]
        return self.function(embedding, target, self.weight, self.log_scale, **parameters)

    def link(self, output: Tensor) -> Tensor:
        check_embedding(self.name, output, self.weight)
        scale = self.scale if self.log_scale is None else self.log_scale.exp()
        return scaled_cosines(output, self.weight, scale).softmax(1).to(output.dtype)
