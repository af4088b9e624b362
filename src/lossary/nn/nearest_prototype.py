"""Nearest prototype: classes by the mean direction of a few of their embeddings."""

from typing import Any

import torch
from torch import Tensor, nn

from lossary._core.checks import check_floating, check_integers, check_shape, shape_text
from lossary._core.objective import without_autocast
from lossary._core.registry import unit
from lossary.errors import InvalidValueError

NAME = "nearest_prototype"


@unit(kind="layer", name=NAME)
class NearestPrototype(nn.Module):
    r"""A classifier without training: each class is the mean direction of the embeddings that were enrolled for it.

    .. math:: w_c = \sum_{i : y_i = c} \frac{x_i}{\lVert x_i \rVert}, \qquad \hat y(x) = \arg\max_c \cos(x, w_c)

    For classes that were not there when the embedding was trained. Enrolling again adds classes, and adds samples to those that are
    known; in whatever parts, the result is the same. Labels are any integers, and are what ``predict`` answers with. What was
    enrolled travels in the ``state_dict``.

    Shape: ``enroll(embedding, labels)`` takes (N, D) and (N,); ``predict(embedding)`` gives labels (N,); calling the module gives
        the cosines with the classes (N, K), in the order of ``labels``.
    Errors: a shape or dtype other than these, or a prediction before anything was enrolled, is a ``LossaryError``.
    Source: Pereira, Joly, Valduriez and Porto, "Hyperspherical embedding for novel class classification", 2021.

    >>> classes = NearestPrototype()
    >>> classes.enroll(torch.tensor([[1.0, 0.0], [1.0, 0.5], [0.0, 1.0]]), torch.tensor([7, 7, 3]))
    >>> classes.predict(torch.tensor([[0.2, 5.0], [4.0, 1.0]]))
    tensor([3, 7])
    """

    labels: Tensor
    sums: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("labels", torch.empty(0, dtype=torch.int64))
        self.register_buffer("sums", torch.empty(0, 0))  # of unit embeddings, for each label

    @torch.no_grad()
    def enroll(self, embedding: Tensor, labels: Tensor) -> None:
        """Add samples with their labels."""
        self._check(embedding)
        check_integers(NAME, "labels", labels)
        check_shape(NAME, "labels", labels, (embedding.shape[0],))
        known = self.sums if len(self.labels) else embedding.new_empty(0, embedding.shape[1], dtype=_wide(embedding))
        self.labels, place = torch.cat([self.labels.to(labels.device), labels.long()]).unique(return_inverse=True)
        added = torch.cat([known, nn.functional.normalize(embedding.to(known.dtype), dim=1)])
        self.sums = added.new_zeros(len(self.labels), embedding.shape[1]).index_add(0, place, added)

    def forward(self, embedding: Tensor) -> Tensor:
        if not len(self.labels):
            raise InvalidValueError(f"{NAME}: enroll must be called before anything is predicted, got no classes yet")
        self._check(embedding)
        x, w = nn.functional.normalize(embedding.to(_wide(embedding)), dim=1), nn.functional.normalize(self.sums, dim=1)
        with without_autocast(x):
            return x @ w.to(x.dtype).T

    def predict(self, embedding: Tensor) -> Tensor:
        """The label (N,) of the nearest class."""
        return self.labels[self(embedding).argmax(1)]

    def _check(self, embedding: Tensor) -> None:
        check_floating(NAME, "embedding", embedding)
        width = self.sums.shape[1] if len(self.labels) else None
        if embedding.ndim != 2 or width not in (None, embedding.shape[1]):
            shape = f"(N, {'D' if width is None else width})"
            raise InvalidValueError(f"{NAME}: embedding must have shape {shape}, got {shape_text(tuple(embedding.shape))}")

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in ("labels", "sums"):  # buffers take the size of what was enrolled
            saved = state_dict.get(prefix + name)
            if saved is not None:
                own = getattr(self, name)
                setattr(self, name, torch.empty_like(saved, device=own.device))
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _wide(embedding: Tensor) -> torch.dtype:
    return torch.promote_types(embedding.dtype, torch.float32)
