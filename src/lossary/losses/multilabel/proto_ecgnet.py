"""Prototypes of several labels, kept tight, apart, and near each other only where their labels occur together."""

from typing import Any

import torch
from torch import Tensor, nn

from lossary._core.checks import check_floating, check_shape, check_tensor, shape_text
from lossary._core.objective import Objective, double, reset_directions, widen, without_autocast
from lossary._core.parameters import Count, NonNegative, PositiveCount, SetReduction, Vector, formula
from lossary._core.registry import objective
from lossary._fast.pairs.rule import unit
from lossary.errors import InvalidTypeError, InvalidValueError


@formula
def proto_ecgnet(
    embedding: Tensor,
    target: Tensor,
    prototypes: Tensor,
    classifier_weight: Tensor,
    prototype_class: Tensor,
    members: Tensor,
    label_cooccurrence: Tensor | None,
    *,
    cluster_weight: NonNegative = 0.004,
    separation_weight: NonNegative = 0.0004,
    sparsity_weight: NonNegative = 0.0,
    diversity_weight: NonNegative = 250.0,
    contrastive_weight: NonNegative = 300.0,
    pos_weight: Tensor | None = None,
    reduction: SetReduction = "mean",
) -> Tensor:
    """The pure function behind :class:`ProtoECGNetLoss`, with the prototypes (P, D), the classifier's weights (C, P), which
    prototype is of which class (P, C), the same as the places of each class's prototypes (C, K), and how labels occur together
    (C, C)."""
    _check("proto_ecgnet", embedding, prototypes)
    num_classes = classifier_weight.shape[0]
    check_tensor("proto_ecgnet", "target", target)
    check_shape("proto_ecgnet", "target", target, (embedding.shape[0], num_classes))
    if target.is_complex():
        raise InvalidTypeError(f"proto_ecgnet: target must be real, got {target.dtype}")
    if pos_weight is not None:
        check_floating("proto_ecgnet", "pos_weight", pos_weight)
        check_shape("proto_ecgnet", "pos_weight", pos_weight, (num_classes,))

    x = widen(embedding)
    y, of_class = target.to(x.dtype), prototype_class.to(x.dtype)
    with without_autocast(x):
        unit_prototypes = unit(prototypes.to(x.dtype))
        similarity = unit(x) @ unit_prototypes.T
        logits = similarity @ classifier_weight.to(x.dtype).T
        gram = unit_prototypes @ unit_prototypes.T
        together = of_class if label_cooccurrence is None else of_class @ label_cooccurrence.to(x.dtype)
        attract = (together @ of_class.T).clamp(0.0, 1.0)
    if not embedding.shape[0]:
        return logits.sum()
    factors = None if pos_weight is None else pos_weight.to(x.dtype)
    loss = nn.functional.binary_cross_entropy_with_logits(logits, y, pos_weight=factors)
    if cluster_weight or separation_weight:
        own = similarity[:, members].amax(2)
        others = _nearest_of_others(similarity, prototype_class.bool())
        # a prototype of another class counts as 0 in the first, one of the own class in the second
        nearest = torch.where(others > -torch.inf, (own * y).clamp_min(0.0), own * y)
        loss = loss - cluster_weight * nearest.mean() + separation_weight * torch.maximum(own * (1 - y), others).mean()
    if sparsity_weight:
        loss = loss + sparsity_weight * similarity.clamp_min(0.0).sum(1).mean()
    if diversity_weight:
        identity = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        loss = loss + diversity_weight * (gram - identity).square().mean()
    if contrastive_weight:
        inside = gram.clamp(-1 + 1e-6, 1 - 1e-6)
        near = (inside * attract).sum() / (attract.sum() + 1e-6)
        far = (inside * (1 - attract)).sum() / ((1 - attract).sum() + 1e-6)
        loss = loss - contrastive_weight * (near - far) / 2
    return loss * logits.numel() if reduction == "sum" else loss


def _check(owner: str, embedding: Tensor, prototypes: Tensor) -> None:
    check_floating(owner, "embedding", embedding)
    if embedding.ndim != 2 or embedding.shape[1] != prototypes.shape[1]:
        shape = f"(N, {prototypes.shape[1]})"
        raise InvalidValueError(f"{owner}: embedding must have shape {shape}, got {shape_text(tuple(embedding.shape))}")


def _nearest_of_others(similarity: Tensor, of_class: Tensor) -> Tensor:
    """For each class the largest similarity with a prototype that is not of it (N, C); -inf if all are.

    It is the largest of all but for the one or two classes of the nearest prototype, so no (N, C, P) is needed.
    """
    top, place = similarity.max(1)
    classes = of_class[place].to(torch.uint8)
    first = classes.argmax(1)
    last = classes.shape[1] - 1 - classes.flip(1).argmax(1)
    nearest = top.unsqueeze(1).expand(classes.shape)
    for label in (first, last):
        elsewhere = similarity.masked_fill(of_class.T[label], -torch.inf).amax(1)
        nearest = nearest.scatter(1, label.unsqueeze(1), elsewhere.unsqueeze(1))
    return nearest


@objective(
    family="multilabel",
    function=proto_ecgnet,
    decomposable=False,
    spatial=False,
    tune={"diversity_weight": (25.0, 500.0), "contrastive_weight": (30.0, 600.0)},
)
class ProtoECGNetLoss(Objective):
    r"""Prototypes of several labels, kept tight, apart, and near each other only where their labels occur together.

    .. math::
        \mathcal{L} = \mathrm{BCE}(W s, y) - \lambda_1 \overline{\max_p s_p A_{pc} y_c}
        + \lambda_2 \overline{\max_p s_p (1 - A_{pc} y_c)}
        + \lambda_3 \overline{\textstyle\sum_p \max(s_p, 0)} + \lambda_4 \frac{\lVert G - I \rVert_F^2}{P^2}
        - \lambda_5 \frac{\bar G_{M} - \bar G_{1 - M}}{2}

    with the cosines s of an embedding and P prototypes, each of one class (or of a pair of classes, if there are joint ones), A
    saying of which; means over samples and classes; the cosines G between prototypes; and their means over pairs whose classes
    occur together, M = A J A' with the Jaccard index J of the training labels (``set_cooccurrence``), and over the others. A
    classifier with its own weights: every prediction comes from a few cases that can be shown once ``project`` has moved each
    prototype onto the nearest training sample of its class. The authors train in stages: prototypes, joint ones, projection,
    classifier.

    In the authors' program the last term has one sign too many and pushes prototypes of labels apart that occur together; here they
    come together, as the paper says. Joint prototypes make A J A' larger than 1, which is cut off. The weights of the last two
    terms are large because these are divided by the number of pairs; the value can be far below 0.

    Args:
        num_classes: how many labels C there are.
        embedding_dim: the width D of the embedding.
        prototypes_per_class: how many prototypes each class has.
        joint_prototypes_per_pair: how many each pair of classes has besides.
        cluster_weight, separation_weight, sparsity_weight, diversity_weight, contrastive_weight: lambda 1 to 5.
        label_cooccurrence: J (C, C); without, a class occurs with itself alone.
        pos_weight: as in :class:`torch.nn.BCEWithLogitsLoss`.
        reduction: ``"mean"``, the formula above, or ``"sum"``, which is that times the number of labels of the batch.
    Shape: embedding (N, D); target (N, C) in [0, 1]; ``link(embedding)`` gives probabilities (N, C).
    Units: nats, and cosines.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Sethi, Chen, Statchen, Burkhart, Bhandari, Ramadan and Beaulieu-Jones, "ProtoECGNet: Case-Based Interpretable Deep
        Learning for Multi-Label ECG Classification with Contrastive Learning", 2025.

    >>> loss = ProtoECGNetLoss(num_classes=2, embedding_dim=2, prototypes_per_class=1)
    >>> _ = torch.nn.init.eye_(loss.prototypes)
    >>> loss.link(torch.tensor([[1.0, 0.0]])).detach()  # sigmoid of 1 and of -1/2
    tensor([[0.7311, 0.3775]])
    """

    consumes = "embedding"
    num_classes: int
    prototype_class: Tensor
    members: Tensor
    label_cooccurrence: Tensor | None
    prototypes_per_class: int
    joint_prototypes_per_pair: int

    def __init__(
        self,
        *,
        num_classes: PositiveCount,
        embedding_dim: PositiveCount,
        prototypes_per_class: PositiveCount = 5,
        joint_prototypes_per_pair: Count = 0,
        cluster_weight: NonNegative = 0.004,
        separation_weight: NonNegative = 0.0004,
        sparsity_weight: NonNegative = 0.0,
        diversity_weight: NonNegative = 250.0,
        contrastive_weight: NonNegative = 300.0,
        label_cooccurrence: Vector | None = None,
        pos_weight: Vector | None = None,
        reduction: SetReduction = "mean",
    ):
        super().__init__(
            num_classes=num_classes,
            embedding_dim=embedding_dim,
            prototypes_per_class=prototypes_per_class,
            joint_prototypes_per_pair=joint_prototypes_per_pair,
            cluster_weight=cluster_weight,
            separation_weight=separation_weight,
            sparsity_weight=sparsity_weight,
            diversity_weight=diversity_weight,
            contrastive_weight=contrastive_weight,
            label_cooccurrence=label_cooccurrence,
            pos_weight=pos_weight,
            reduction=reduction,
        )
        self.cooccurrence_was_given = self.label_cooccurrence is not None
        if self.label_cooccurrence is not None:
            check_shape(self.name, "label_cooccurrence", self.label_cooccurrence, (num_classes, num_classes))
        in_all = num_classes * prototypes_per_class + num_classes * (num_classes - 1) // 2 * joint_prototypes_per_pair
        of_each = prototypes_per_class + (num_classes - 1) * joint_prototypes_per_pair
        self.register_buffer("prototype_class", torch.empty(in_all, num_classes))
        self.register_buffer("members", torch.empty(num_classes, of_each, dtype=torch.int64), persistent=False)
        self.prototypes = nn.Parameter(torch.empty(in_all, embedding_dim))
        reset_directions(self.prototypes)
        self.classifier = nn.Linear(in_all, num_classes, bias=False)
        self._give_classes()

    def reset_parameters(self) -> None:
        reset_directions(self.prototypes)
        if not self.cooccurrence_was_given:
            self.label_cooccurrence = None
        self._give_classes()

    @torch.no_grad()
    def _give_classes(self) -> None:
        """Give each prototype its label or its pair of labels, and the classifier 1 for the own class and -1/2 for others."""
        device, (classes, of_each) = self.prototypes.device, self.members.shape
        singles, each = classes * self.prototypes_per_class, self.joint_prototypes_per_pair
        own = torch.arange(classes, device=device).repeat_interleave(self.prototypes_per_class).unsqueeze(1)
        self.prototype_class.zero_()[:singles].scatter_(1, own, 1.0)
        if each:
            pairs = torch.triu_indices(classes, classes, 1, device=device).T
            self.prototype_class[singles:].scatter_(1, pairs.repeat_interleave(each, 0), 1.0)
        self.members.copy_(self.prototype_class.T.argsort(dim=1, descending=True, stable=True)[:, :of_each])
        self.classifier.weight.copy_(1.5 * self.prototype_class.T - 0.5)

    @property
    def classifier_weight(self) -> Tensor:
        return self.classifier.weight

    def hyperparameters(self) -> dict[str, object]:
        """What the constructor was given: what ``set_cooccurrence`` found is state."""
        given = super().hyperparameters()
        return given if self.cooccurrence_was_given else {**given, "label_cooccurrence": None}

    def forward(self, embedding: Tensor, target: Tensor) -> Tensor:
        parameters = self.hyperparameters()
        sizes = ("num_classes", "embedding_dim", "prototypes_per_class", "joint_prototypes_per_pair")
        for name in (*sizes, "label_cooccurrence"):
            del parameters[name]
        state = (self.prototypes, self.classifier_weight, self.prototype_class, self.members, self.label_cooccurrence)
        return self.function(embedding, target, *state, **parameters)

    def similarity(self, embedding: Tensor) -> Tensor:
        """The cosines (N, P) with the prototypes, by which a prediction is explained."""
        _check(self.name, embedding, self.prototypes)
        x = widen(embedding)
        with without_autocast(x):
            return unit(x) @ unit(self.prototypes.to(x.dtype)).T

    def link(self, output: Tensor) -> Tensor:
        similarity = self.similarity(output)
        with without_autocast(output):
            return (similarity @ self.classifier.weight.to(similarity.dtype).T).sigmoid().to(output.dtype)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"

    @torch.no_grad()
    def set_cooccurrence(self, targets: Tensor) -> None:
        """Find how labels occur together in the training targets (N, C): of the samples with either, the share with both."""
        check_tensor(self.name, "targets", targets)
        check_shape(self.name, "targets", targets, (targets.shape[0], self.num_classes))
        y = double(targets)
        both = y.T @ y
        either = both.diagonal()[:, None] + both.diagonal() - both
        jaccard = (both / either.clamp_min(1e-12)).fill_diagonal_(1.0)
        self.label_cooccurrence = jaccard.to(self.prototypes)

    @torch.no_grad()
    def project(self, embeddings: Tensor, targets: Tensor) -> Tensor:
        """Move each prototype onto the nearest training embedding (N, D) that has its label, or both of its labels.

        Returns which one it is (P,), -1 where no sample has the label and the prototype stays.
        """
        similarity = self.similarity(embeddings)
        check_tensor(self.name, "targets", targets)
        check_shape(self.name, "targets", targets, (embeddings.shape[0], self.num_classes))
        has = targets.to(self.prototype_class.dtype) @ self.prototype_class.T >= self.prototype_class.sum(1)
        exists = has.any(0)
        place = similarity.masked_fill(~has, -torch.inf).argmax(0)
        moved = embeddings[place].to(self.prototypes)
        self.prototypes.copy_(torch.where(exists.unsqueeze(1), moved, self.prototypes))
        return place.masked_fill(~exists, -1)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        saved = state_dict.get(f"{prefix}label_cooccurrence")
        if saved is not None and self.label_cooccurrence is None:
            self.label_cooccurrence = torch.empty_like(saved)
        super()._load_from_state_dict(state_dict, prefix, *rest)
