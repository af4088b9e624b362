"""SFace: a pull to the right class and a push from the others, each of which fades out at an angle."""

from torch import Tensor

from lossary._core.objective import average_over_kept, class_indices, widen
from lossary._core.parameters import NonNegative, Positive, PositiveCount, Reduction, Vector, formula
from lossary._core.registry import objective
from lossary._fast.pairs.rule import Pairs, over_rows, unit
from lossary.losses.classification._common import without_ignored
from lossary.losses.classification._embedding import CosineClassifier, check_embedding_and_index


@formula
def sface(
    embedding: Tensor,
    target: Tensor,
    weight: Tensor,
    *,
    scale: Positive = 64.0,
    steepness: NonNegative = 80.0,
    intra_threshold: NonNegative = 0.8,
    inter_threshold: NonNegative = 1.23,
    class_weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`SFaceLoss`, with the same parameters and class directions ``weight`` (C, D)."""
    check_embedding_and_index("sface", embedding, target, weight, class_weight)
    embedding = without_ignored(embedding, target, ignore_index)
    index, ignored = class_indices(target, ignore_index)

    def pulled_and_pushed(cosine: Tensor, pairs: Pairs) -> tuple[Tensor]:
        angle = cosine.detach().clamp(-1.0, 1.0).acos_()  # no gradient passes through the strength of a force
        pull = (steepness * (pairs.at_own(angle) - intra_threshold)).sigmoid_()
        push = angle.sub_(inter_threshold).mul_(-steepness).sigmoid_()
        force = push.scatter(1, index_of(pairs), -pull.unsqueeze(1))
        return ((scale * force * cosine).sum(1),)

    x = widen(embedding)
    (per_sample,) = over_rows(pulled_and_pushed, unit(x), unit(weight.to(x.dtype)), own=index)
    if class_weight is not None:
        class_weight = class_weight.to(per_sample.dtype)
        per_sample = per_sample * class_weight[index]
    return average_over_kept(per_sample, index, ignored, class_weight, reduction)


def index_of(pairs: Pairs) -> Tensor:
    if pairs.own is None:
        raise AttributeError("the anchors have no items of their own")
    return pairs.own.unsqueeze(1)


@objective(
    family="classification",
    function=sface,
    soft_targets=False,
    spatial=False,
    value_is_objective=False,  # strengths are constants for the gradient, so the value is none of which it is the derivative
    exact_gradient_with={"steepness": 0.0},
    link="ranking",
    tune={"intra_threshold": (0.6, 1.0), "inter_threshold": (1.1, 1.5)},
)
class SFaceLoss(CosineClassifier):
    r"""SFace: embeddings are pulled to their class and pushed from the others, and both forces fade out at an angle.

    .. math::
        \ell(x, y) = -[r(\theta_y)] \cos\theta_y + \sum_{c \ne y} [\bar r(\theta_c)] \cos\theta_c, \quad
        r(\theta) = s\,\sigma(k(\theta - a)), \quad \bar r(\theta) = s\,\sigma(-k(\theta - b))

    with the angle theta between the embedding and the direction of a class, and no gradient through what stands in brackets. A
    classifier with its own weights and without a softmax: the pull ends once an embedding is nearer than a to its class, and the
    push from a class once it is farther than b, so that what is labelled wrongly is not learned to the last. Only the gradient is
    designed; the value is a surrogate that can be negative and need not fall, and nobody should compare it or stop on it. ``link``
    ranks classes by their cosines; the loss makes no probabilities of them, and soft targets have no meaning. The authors' program
    evaluates the sigmoid from its exponential, which overflows in half precision.

    Args:
        num_classes: how many classes there are.
        embedding_dim: the width D of the embedding.
        scale: s, the largest force.
        steepness: k; the larger, the more suddenly forces begin and end. At 0 they are constant.
        intra_threshold: a, in radians, where the pull to the own class has fallen to one half.
        inter_threshold: b, in radians, where the push from another class has fallen to one half. The paper tunes both for each
            training set; the values of the authors' program are taken.
        class_weight: the weights of the classes, ``weight`` in :class:`torch.nn.CrossEntropyLoss`; ``weight`` are the directions.
        ignore_index, reduction: as in :class:`torch.nn.CrossEntropyLoss`.
    Shape: embedding (N, D); target (N,) class indices.
    Units: none; a force times a cosine.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Zhong, Deng, Hu, Zhao, Li and Wen, "SFace: Sigmoid-Constrained Hypersphere Loss for Robust Face Recognition", 2021.

    >>> loss = SFaceLoss(num_classes=2, embedding_dim=2, scale=1.0)
    >>> _ = torch.nn.init.eye_(loss.weight)
    >>> loss(torch.tensor([[3.0, 4.0]]), torch.tensor([0])).detach()  # wrong: pulled to its class with 1 and pushed from the other
    tensor(0.2000)
    """

    def __init__(
        self,
        *,
        num_classes: PositiveCount,
        embedding_dim: PositiveCount,
        scale: Positive = 64.0,
        steepness: NonNegative = 80.0,
        intra_threshold: NonNegative = 0.8,
        inter_threshold: NonNegative = 1.23,
        class_weight: Vector | None = None,
        ignore_index: int = -100,
        reduction: Reduction = "mean",
    ):
        super().__init__(
            num_classes=num_classes,
            embedding_dim=embedding_dim,
            scale=scale,
            steepness=steepness,
            intra_threshold=intra_threshold,
            inter_threshold=inter_threshold,
            class_weight=class_weight,
            ignore_index=ignore_index,
            reduction=reduction,
        )
