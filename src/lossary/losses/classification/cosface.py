"""CosFace: normalized softmax in which the right class has to lead by a margin of the cosine."""

from torch import Tensor

from lossary._core.parameters import Fraction, NonNegative, Positive, PositiveCount, Reduction, Vector, formula
from lossary._core.registry import SpecialCase, objective
from lossary._fast.classes.rule import Rows, average_over_rows
from lossary._fast.pairs.classifiers import average_of_margins, never_whole
from lossary.losses.classification._common import without_ignored
from lossary.losses.classification._embedding import CosineClassifier, check_embedding_and_target, scaled_cosines


@formula
def cosface(
    embedding: Tensor,
    target: Tensor,
    weight: Tensor,
    *,
    scale: Positive = 64.0,
    margin: NonNegative = 0.35,
    class_weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: Fraction = 0.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`CosFaceLoss`, with the same parameters and class directions ``weight`` (C, D)."""
    check_embedding_and_target("cosface", embedding, target, weight, class_weight)
    embedding = without_ignored(embedding, target, ignore_index)
    if never_whole(embedding, weight, target, label_smoothing):
        return average_of_margins(
            embedding,
            weight,
            target,
            scale,
            lambda own: own - scale * margin,
            class_weight=class_weight,
            ignore_index=ignore_index,
            reduction=reduction,
        )

    def if_class(row: Rows) -> Tensor:
        return -row.log_p

    return average_over_rows(
        scaled_cosines(embedding, weight, scale),
        target,
        if_class,
        margin=scale * margin,
        weight=class_weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
    )


@objective(
    family="classification",
    function=cosface,
    spatial=False,
    tune={"scale": (5.0, 64.0), "margin": (0.05, 0.5)},
    special_cases=[SpecialCase({"margin": 0.0}, "normalized_softmax", {"scale": 64.0})],
)
class CosFaceLoss(CosineClassifier):
    r"""CosFace: normalized softmax in which the cosine of the right class has to lead by a margin.

    .. math:: \ell(x, y) = -\log \frac{e^{s (\cos\theta_y - m)}}{e^{s (\cos\theta_y - m)} + \sum_{c \ne y} e^{s \cos\theta_c}}

    with the angle theta between the embedding and the direction of a class. A classifier with its own weights. A soft target costs
    the average of the losses of its classes. At test time there is no margin, and ``link`` has none.

    Args:
        num_classes: how many classes there are.
        embedding_dim: the width D of the embedding.
        scale: s, the inverse temperature of the cosines.
        margin: m; 0 is ``normalized_softmax``.
        class_weight: the weights of the classes, ``weight`` in :class:`torch.nn.CrossEntropyLoss`; ``weight`` are the directions.
        ignore_index, label_smoothing, reduction: as in :class:`torch.nn.CrossEntropyLoss`.
    Shape: embedding (N, D); target (N,) class indices, or (N, C) probabilities.
    Units: nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Wang et al., "CosFace: Large Margin Cosine Loss for Deep Face Recognition", 2018.

    >>> loss = CosFaceLoss(num_classes=2, embedding_dim=2, scale=4.0)
    >>> _ = torch.nn.init.eye_(loss.weight)
    >>> loss(torch.tensor([[3.0, 4.0]]), torch.tensor([1])).detach()
    tensor(1.0375)
    """

    def __init__(
        self,
        *,
        num_classes: PositiveCount,
        embedding_dim: PositiveCount,
        scale: Positive = 64.0,
        margin: NonNegative = 0.35,
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
