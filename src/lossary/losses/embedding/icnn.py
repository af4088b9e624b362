"""ICNN loss: nearest neighbours of one class stick together and keep away from others."""

import torch
from torch import Tensor

from lossary._core.objective import widen
from lossary._core.parameters import PositiveCount, formula
from lossary._core.registry import objective
from lossary._fast.pairs.neighbours import inter_and_intra_class_score
from lossary.distributed import Group
from lossary.losses.embedding._common import MetricObjective, check_embedding_and_labels


@formula
def icnn(
    embedding: Tensor,
    labels: Tensor,
    *,
    neighbors: PositiveCount | None = None,
    retrieved: PositiveCount | None = None,
    group: Group = None,
) -> Tensor:
    """The pure function behind :class:`ICNNLoss`, with the same parameters."""
    check_embedding_and_labels("icnn", embedding, labels)
    score = inter_and_intra_class_score("icnn", widen(embedding), labels, neighbors, retrieved, group)
    return -torch.log(score.clamp_min(1e-7))


@objective(
    family="embedding",
    function=icnn,
    soft_targets=False,
    decomposable=False,
    spatial=False,
    link="value",
    distributed="inexact",
    vmap=False,  # how many neighbours count is read from the labels
    compile=False,  # likewise
)
class ICNNLoss(MetricObjective):
    r"""ICNN loss: the nearest neighbours of a sample are of its class, near, and far from other classes.

    .. math:: -\log \tfrac12 \Bigl( \tfrac12 (\mathrm{compact} + \mathrm{apart}) + \gamma \Bigr)

    the negative logarithm of the score that :func:`lossary.metrics.icnn_score` describes. The share gamma of neighbours of the
    same class is a count and carries no gradient. Embeddings are not normalised. Meant for episodes of a few samples for each
    class, beside cross-entropy on the distances to prototypes; the paper describes a product of three powers, and this is the
    later form of the programs that can be found. Neighbours are found in blocks of rows, and only their distances are kept.

    Args:
        neighbors: how many neighbours of a sample are used; one less than the smallest class has samples by default.
        retrieved: how many are retrieved to find the nearest one of another class; one more than are used by default.
        group: the processes whose samples are neighbours too: None for this one alone, ``"world"``, or a process group. The mean
            over them of the loss and of its gradients is that of one process with the whole batch.
    Shape: embedding (N, D); labels (N,) integers.
    Units: nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Mendez-Ruiz, Gonzalez-Zapata, Reyes-Amezcua, Flores-Araiza, Lopez-Tiro, Mendez-Vazquez and Ochoa-Ruiz, "SuSana Distancia
        is all you need", 2023.

    >>> ICNNLoss()(torch.tensor([[0.0], [1.0], [10.0], [11.0]]), torch.tensor([0, 0, 1, 1]))
    tensor(0.0267)
    """

    def __init__(self, *, neighbors: PositiveCount | None = None, retrieved: PositiveCount | None = None, group: Group = None):
        super().__init__(neighbors=neighbors, retrieved=retrieved, group=group)
