"""What classifiers with weights of their own share: the checks of an embedding, and distances to class centres."""

from torch import Tensor

from lossary._checks import check_class_inputs, check_floating, check_shape, shape_text
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
    check_class_inputs(owner, embedding.new_empty(embedding.shape[0], centres.shape[0]), target, None)
    if class_weight is not None:
        check_floating(owner, "class_weight", class_weight)
        check_shape(owner, "class_weight", class_weight, (centres.shape[0],))


def squared_distances(embedding: Tensor, centres: Tensor) -> Tensor:
    """||x - w||^2 of every pair (N, C), in float64 without an (N, C, D) tensor.

    Its expanded form is one matrix product. In float32 that loses every digit of a small distance between large vectors, and has
    no more than one or two where all centres are far; in float64 enough are left.
    """
    x, w = embedding.double(), centres.double()
    return (x.square().sum(1, keepdim=True) + w.square().sum(1) - 2 * x @ w.T).clamp_min(0.0)
