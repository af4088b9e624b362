"""Prototype triplet loss: nearer to the own class's mean than to any other by a margin."""

import torch
from torch import Tensor

from lossary._core.checks import check_shape, check_tensor
from lossary._core.objective import reduce, widen
from lossary._core.parameters import NonNegative, Reduction, formula
from lossary._core.registry import objective
from lossary._fast.dispatch import can_look
from lossary._fast.pairs.rule import Pairs, over_rows
from lossary.distributed import Group, all_items, total
from lossary.errors import InvalidTypeError
from lossary.losses.embedding._common import MetricObjective, check_embedding_and_labels


@formula
def proto_triplet(
    embedding: Tensor,
    labels: Tensor,
    support: Tensor | None = None,
    *,
    margin: NonNegative = 0.5,
    group: Group = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`ProtoTripletLoss`, with the same parameters."""
    check_embedding_and_labels("proto_triplet", embedding, labels)
    if support is not None:
        check_tensor("proto_triplet", "support", support)
        check_shape("proto_triplet", "support", support, (embedding.shape[0],))
        if support.dtype != torch.bool:
            raise InvalidTypeError(f"proto_triplet: support must be bool, got {support.dtype}")
    x = widen(embedding)
    everybody = all_items("proto_triplet", labels, group)
    if not len(everybody.items):
        return x.sum() if reduction != "none" else x.sum(1)
    of_sample, size = _numbered(everybody.items)
    of_sample = of_sample[everybody.start : everybody.start + len(x)]
    member = torch.ones_like(of_sample, dtype=x.dtype) if support is None else support.to(x.dtype)
    count = total("proto_triplet", x.new_zeros(size).index_add(0, of_sample, member), group)
    summed = total("proto_triplet", x.new_zeros(size, x.shape[1]).index_add(0, of_sample, x * member[:, None]), group)
    prototypes = summed / count.clamp_min(1)[:, None]

    # The nearest other prototype comes from all of them, without a gradient; the loss is then one of two distances for each query.
    def row(q: Tensor, pairs: Pairs) -> tuple[Tensor, ...]:
        usable = pairs.negative & (pairs.item_sides[0] > 0)
        return q.masked_fill(~usable, torch.inf).argmin(1).to(q.dtype), usable.any(1).to(q.dtype)

    with torch.no_grad():
        centre = prototypes.mean(0)  # distances stay, and fewer of them are small beside the lengths
        classes = torch.arange(size, device=x.device)
        nearest, has_other = over_rows(
            row, x - centre, prototypes - centre, labels=of_sample, item_labels=classes, item_sides=[count], squares=True
        )
    asked = has_other * (count[of_sample] > 0)
    if support is not None:
        asked = asked * ~support
    own, other = (((x - to).square().sum(1) + 1e-6).sqrt() for to in (prototypes[of_sample], prototypes[nearest.long()]))
    value = (own - other + margin).relu() * asked
    if reduction == "none":
        return value
    return reduce(total("proto_triplet", value.sum(), group), total("proto_triplet", asked.sum(), group), reduction)


def _numbered(labels: Tensor) -> tuple[Tensor, int]:
    """The classes of labels as numbers from 0 on, and how many there are at most."""
    ascending, order = labels.sort()
    number = torch.nn.functional.pad((ascending[1:] != ascending[:-1]).cumsum(0), (1, 0))
    of_sample = torch.zeros_like(order).scatter(0, order, number)
    # where values are not to be read, there is room for as many classes as samples
    return of_sample, int(number[-1]) + 1 if can_look(number) else len(labels)


@objective(
    family="embedding",
    function=proto_triplet,
    soft_targets=False,
    decomposable=False,
    spatial=False,
    link="value",
    distributed="inexact",
    tune={"margin": (0.1, 2.0)},
)
class ProtoTripletLoss(MetricObjective):
    r"""Prototype triplet loss: every query nearer to its own class's mean than to any other's by a margin.

    .. math:: \ell_i = \Bigl[ d(x_i, c_{y_i}) - \min_{k \ne y_i} d(x_i, c_k) + m \Bigr]_+,
        \qquad d(x, c) = \sqrt{\lVert x - c \rVert^2 + 10^{-6}}

    where the prototype c of a class is the mean of its support embeddings. Embeddings are not normalised. Meant for episodes of
    a few samples for each class, beside cross-entropy on the distances to prototypes. The mean is over the queries whose class
    has support and that have another class to be held against.

    Args:
        margin: by how much the own prototype has to be nearer.
        group: the processes whose support makes the prototypes, each having its own queries: None for this one alone, ``"world"``,
            or a process group. The mean over them of the loss and of its gradients is that of one process with the whole batch.
        reduction: over the queries; with ``"none"`` a sample that asks nothing is 0.
    Shape: embedding (N, D); labels (N,) integers; support (N,) bool, True for samples that make prototypes, the others being
        queries; without it every sample is both.
    Units: distances.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Mendez-Ruiz, Gonzalez-Zapata, Reyes-Amezcua, Flores-Araiza, Lopez-Tiro, Mendez-Vazquez and Ochoa-Ruiz, "SuSana Distancia
        is all you need", 2023.

    >>> x = torch.tensor([[0.0, 0.0], [2.0, 0.0], [1.2, 0.0]])
    >>> ProtoTripletLoss()(x, torch.tensor([0, 1, 0]), torch.tensor([True, True, False]))
    tensor(0.9000)
    """

    def __init__(self, *, margin: NonNegative = 0.5, group: Group = None, reduction: Reduction = "mean"):
        super().__init__(margin=margin, group=group, reduction=reduction)

    def forward(self, embedding: Tensor, labels: Tensor, support: Tensor | None = None) -> Tensor:
        return self.function(embedding, labels, support, **self.hyperparameters())
