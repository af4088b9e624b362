"""Harmonic loss: the nearer a class centre, the likelier the class."""

import torch
from torch import Tensor, nn

from lossary._core.objective import Objective, average_over_classes, log_softmax, reset_directions, widen
from lossary._core.parameters import Fraction, NonNegative, Positive, PositiveCount, Reduction, Vector, formula
from lossary._core.registry import objective
from lossary.losses.classification._common import without_ignored
from lossary.losses.classification._embedding import check_embedding, check_embedding_and_target, squared_distances


@formula
def harmonic(
    embedding: Tensor,
    target: Tensor,
    weight: Tensor,
    *,
    exponent: Positive | None = None,
    eps: NonNegative = 1e-4,
    class_weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: Fraction = 0.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`HarmonicLoss`, with the same parameters and the class centres ``weight`` (C, D)."""
    check_embedding_and_target("harmonic", embedding, target, weight, class_weight)
    embedding = without_ignored(embedding, target, ignore_index)
    loss = average_over_classes(
        -log_harmonic_max(embedding, weight, exponent, eps),
        target,
        weight=class_weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
    )
    return loss.to(widen(embedding).dtype)


def log_harmonic_max(embedding: Tensor, centres: Tensor, exponent: float | None, eps: float) -> Tensor:
    """log p (N, C) in float64: powers of distances overflow for exponents that are usual here."""
    n = embedding.shape[1] ** 0.5 if exponent is None else exponent
    squares = squared_distances(embedding, centres) + eps
    return log_softmax(-n / 2 * squares.clamp_min(torch.finfo(squares.dtype).tiny).log())


@objective(
    family="classification",
    function=harmonic,
    proper=True,
    spatial=False,
)
class HarmonicLoss(Objective):
    r"""Harmonic loss: the nearer a class centre, the likelier the class.

    .. math:: \ell(x, y) = -\log \frac{d_y^{-n}}{\sum_c d_c^{-n}}, \qquad d_c^2 = \lVert x - w_c \rVert^2 + \epsilon

    A classifier with its own weights, the class centres, which are interpretable: they come to look like the mean of their class.
    The loss goes to 0 at finite weights, and with eps = 0 it does not change when embeddings and centres are scaled together.
    Weight decay pulls the centres to the origin. Computed in log space and float64 inside, because powers overflow and differences
    of large squares lose their digits. The authors' program raises the squared distance to -n, which is ``exponent=2n`` here; for
    their language model, with n = D, it also mixes in a hundredth of uniform probability and replaces what is not a number.

    Args:
        num_classes: how many classes there are.
        embedding_dim: the width D of the embedding.
        exponent: the exponent n; the square root of D by default, as recommended in the paper.
        eps: added to squared distances.
        class_weight: the weights of the classes, ``weight`` in :class:`torch.nn.CrossEntropyLoss`; ``weight`` are the centres here.
        ignore_index, label_smoothing, reduction: as in :class:`torch.nn.CrossEntropyLoss`.
    Shape: embedding (N, D); target (N,) class indices, or (N, C) probabilities.
    Units: nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Baek, Liu, Tyagi and Tegmark, "Harmonic Loss Trains Interpretable AI Models", 2025: the formula of the paper.

    >>> loss = HarmonicLoss(num_classes=2, embedding_dim=4)
    >>> _ = torch.nn.init.eye_(loss.weight)
    >>> loss(torch.tensor([[1.0, 0.0, 0.0, 1.0]]), torch.tensor([0])).detach()
    tensor(0.2877)
    """

    consumes = "embedding"
    exponent: float | None
    eps: float

    def __init__(
        self,
        *,
        num_classes: PositiveCount,
        embedding_dim: PositiveCount,
        exponent: Positive | None = None,
        eps: NonNegative = 1e-4,
        class_weight: Vector | None = None,
        ignore_index: int = -100,
        label_smoothing: Fraction = 0.0,
        reduction: Reduction = "mean",
    ):
        super().__init__(
            num_classes=num_classes,
            embedding_dim=embedding_dim,
            exponent=exponent,
            eps=eps,
            class_weight=class_weight,
            ignore_index=ignore_index,
            label_smoothing=label_smoothing,
            reduction=reduction,
        )
        self.weight = nn.Parameter(torch.empty(num_classes, embedding_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        reset_directions(self.weight)

    def forward(self, embedding: Tensor, target: Tensor) -> Tensor:
        parameters = self.hyperparameters()
        del parameters["num_classes"], parameters["embedding_dim"]
        return self.function(embedding, target, self.weight, **parameters)

    def link(self, output: Tensor) -> Tensor:
        check_embedding(self.name, output, self.weight)
        return log_harmonic_max(output, self.weight, self.exponent, self.eps).exp().to(output.dtype)
