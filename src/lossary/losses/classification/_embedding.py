"""What classifiers with weights of their own share: the checks of an embedding, distances to class centres, and cosines."""

import torch
from torch import Tensor, nn

from lossary._core.checks import check_class_inputs, check_floating, check_integers, check_shape, shape_text
from lossary._core.objective import Objective, double, reset_directions, widen, without_autocast
from lossary._fast.classes.rule import Rows
from lossary._fast.pairs.rule import Pairs, unit
from lossary.errors import InvalidValueError


def check_embedding(owner: str, embedding: Tensor, centres: Tensor) -> None:
    """embedding (N, D) for centres (C, D)."""
    check_floating(owner, "embedding", embedding)
    if embedding.ndim != 2 or embedding.shape[1] != centres.shape[1]:
        shape = f"(N, {centres.shape[1]})"
        raise InvalidValueError(f"{owner}: embedding must have shape {shape}, got {shape_text(tuple(embedding.shape))}")


def check_embedding_and_target(
    owner: str, embedding: Tensor, target: Tensor, centres: Tensor, class_weight: Tensor | None = None
) -> None:
    """target (N,) class indices or (N, C) probabilities; class_weight (C,)."""
    check_embedding(owner, embedding, centres)
    logits = embedding.new_empty(()).expand(embedding.shape[0], centres.shape[0])  # of this shape, without its memory
    check_class_inputs(owner, logits, target, None)
    _check_class_weight(owner, class_weight, centres)


def check_embedding_and_index(
    owner: str, embedding: Tensor, target: Tensor, centres: Tensor, class_weight: Tensor | None = None
) -> None:
    """target (N,) class indices alone; class_weight (C,)."""
    check_embedding(owner, embedding, centres)
    check_integers(owner, "target", target)
    check_shape(owner, "target", target, (embedding.shape[0],))
    _check_class_weight(owner, class_weight, centres)


def _check_class_weight(owner: str, class_weight: Tensor | None, centres: Tensor) -> None:
    if class_weight is not None:
        check_floating(owner, "class_weight", class_weight)
        check_shape(owner, "class_weight", class_weight, (centres.shape[0],))


def squared_distances(embedding: Tensor, centres: Tensor) -> Tensor:
    """||x - w||^2 of every pair (N, C), in the most precise dtype of the device, without an (N, C, D) tensor.

    Its expanded form is one matrix product. In float32 that loses every digit of a small distance between large vectors, and has
    no more than one or two where all centres are far; in float64 enough are left.
    """
    x, w = double(embedding), double(centres)
    return (x.square().sum(1, keepdim=True) + w.square().sum(1) - 2 * x @ w.T).clamp_min(0.0)


def scaled_cosines(embedding: Tensor, weight: Tensor, scale: float | Tensor) -> Tensor:
    """scale cos(x, w) of every embedding and class (N, C); the scale goes into the embeddings, which are smaller."""
    x = widen(embedding)
    with without_autocast(x):  # a bfloat16 product times a scale of 64 would have no digits left
        return (scale * unit(x)) @ unit(weight.to(x.dtype)).T


def of_one_class(pairs: Pairs) -> Tensor:
    """(B, M): whether anchor and item have one label. (``pairs.same`` keeps it, which ``torch.compile`` cannot follow.)"""
    if pairs.anchor_labels is None or pairs.item_labels is None:
        raise AttributeError("the pairs have no labels")
    return pairs.anchor_labels[:, None] == pairs.item_labels


def log_sum_of_others(row: Rows, margin: float) -> Tensor:
    """The logarithm of the sum of e^z over all classes but c, from a softmax in which the logit of c was lowered by ``margin``.

    From the plain softmax it would be log(1 - p), of which nothing is left where p rounds to 1: just where a margin counts. The
    margin has to be so large that c comes last; p is then at most one half.
    """
    not_c = -torch.expm1(row.log_p)
    return row.logits - margin - row.log_p + not_c.clamp_min(torch.finfo(not_c.dtype).tiny).log()


class CosineClassifier(Objective):
    """One direction for each class: parameter ``weight`` (C, D), of whose rows only the direction counts."""

    consumes = "embedding"
    scale: float

    def __init__(self, *, num_classes: int, embedding_dim: int, **hyperparameters: object):
        super().__init__(num_classes=num_classes, embedding_dim=embedding_dim, **hyperparameters)
        self.weight = nn.Parameter(torch.empty(num_classes, embedding_dim))
        reset_directions(self.weight)

    def reset_parameters(self) -> None:
        reset_directions(self.weight)

    def forward(self, embedding: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of an embedding (N, D) for a target of class indices (N,) or of probabilities (N, C)."""
        parameters = self.hyperparameters()
        del parameters["num_classes"], parameters["embedding_dim"]
        return self.function(embedding, target, self.weight, **parameters)

    def link(self, output: Tensor) -> Tensor:
        check_embedding(self.name, output, self.weight)
        return scaled_cosines(output, self.weight, self.scale).softmax(1).to(output.dtype)
