"""Losses as other people write them: nothing of Lossary's in them."""

import torch
from torch import Tensor, nn


class HonestLoss(nn.Module):
    """Cross-entropy of the first principles, done with care."""

    def __init__(self, weight: Tensor | None = None, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__()
        if reduction not in ("mean", "sum", "none"):
            raise ValueError(f"reduction must be mean, sum or none, got {reduction!r}")
        self.register_buffer("weight", weight)
        self.ignore_index, self.reduction = ignore_index, reduction

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        if not isinstance(logits, Tensor) or not isinstance(target, Tensor):
            raise TypeError("logits and target must be tensors")
        if not logits.is_floating_point() or target.dtype != torch.int64:
            raise TypeError(f"logits must be floating point and target int64, got {logits.dtype} and {target.dtype}")
        if logits.ndim < 2 or target.shape != (logits.shape[0], *logits.shape[2:]):
            raise ValueError(f"target does not fit logits of shape {tuple(logits.shape)}: {tuple(target.shape)}")
        weight = torch.ones(logits.shape[1], dtype=logits.dtype) if self.weight is None else self.weight
        assert isinstance(weight, Tensor)
        if weight.shape != (logits.shape[1],):
            raise ValueError(f"weight must have shape ({logits.shape[1]},), got {tuple(weight.shape)}")
        wide = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
        ignored = target == self.ignore_index
        index = target.masked_fill(ignored, 0)
        mass = weight.to(wide.dtype)[index].masked_fill(ignored, 0.0)
        each = -wide.log_softmax(1).gather(1, index.unsqueeze(1)).squeeze(1) * mass
        if self.reduction == "none":
            return each
        divisor = mass.sum() if self.reduction == "mean" else mass.new_ones(())
        return each.sum() / torch.where(divisor == 0, torch.ones_like(divisor), divisor)


class NeedsMargin(nn.Module):
    def __init__(self, margin: float) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return nn.functional.multi_margin_loss(logits, target, margin=self.margin)


class TakesThree(nn.Module):
    def forward(self, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        return (a - b - c).square().mean()


class Plain:
    pass


def factory(reduction: str = "mean") -> nn.Module:
    return HonestLoss(reduction=reduction)


def squared(prediction: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    return nn.functional.mse_loss(prediction, target, reduction=reduction)


instance = nn.BCEWithLogitsLoss(reduction="sum")


class Grouped(nn.Module):
    """Wants the group of each sample, and says so in its signature only."""

    def forward(self, logits: Tensor, target: Tensor, group: Tensor) -> Tensor:
        if group.shape != target.shape:
            raise ValueError(f"group must have shape {tuple(target.shape)}, got {tuple(group.shape)}")
        each = nn.functional.cross_entropy(logits, target, reduction="none")
        return torch.stack([each[group == g].mean() for g in range(3) if bool((group == g).any())]).max()


class Centres(nn.Module):
    """A classifier with its own weights."""

    def __init__(self, num_classes: int, embedding_dim: int) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.randn(num_classes, embedding_dim))

    def forward(self, embedding: Tensor, target: Tensor) -> Tensor:
        distances = (embedding.unsqueeze(1) - self.centres).square().sum(2)
        return nn.functional.cross_entropy(-distances, target)


def by_rows(logits: Tensor, target: Tensor) -> Tensor:
    """The labels that matter against all of them."""
    positive = target > 0
    each = -(logits.log_softmax(1) * positive).sum(1)
    return each.sum() / positive.any(1).sum().clamp_min(1)


def by_bags(prediction: Tensor, target: Tensor, bag: Tensor) -> Tensor:
    """The sum of each bag's squared error."""
    total = torch.zeros_like(target).index_add(0, bag, prediction.to(target.dtype))
    size = torch.zeros_like(target).index_add(0, bag, torch.ones_like(target)[bag])
    return ((total - size * target) / size.clamp_min(1)).square().sum()


class ByPairs(nn.Module):
    """As libraries of metric learning have them: embeddings, labels, and things that are rarely given."""

    def __init__(self, margin: float = 0.5) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, embeddings: Tensor, labels: Tensor, indices_tuple: object = None) -> Tensor:
        direction = nn.functional.normalize(embeddings, dim=1)
        cosine = (direction.unsqueeze(1) * direction.unsqueeze(0)).sum(2)
        same = labels.unsqueeze(1) == labels.unsqueeze(0)
        cost = torch.where(same, 1 - cosine, (cosine - self.margin).clamp_min(0))
        return (cost * ~torch.eye(len(labels), dtype=torch.bool)).sum() / max(len(labels), 1)


class ByViews(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        score = (a.unsqueeze(1) * b.unsqueeze(0)).sum(2)
        return nn.functional.cross_entropy(score, torch.arange(len(a))) if len(a) else score.sum()


def by_lists(scores: Tensor, relevance: Tensor, mask: Tensor | None = None) -> Tensor:
    real = torch.ones_like(scores, dtype=torch.bool) if mask is None else mask
    log_p = scores.masked_fill(~real, -1e30).log_softmax(1)
    return -(torch.where(real, relevance, 0.0) * log_p).sum() / max(len(scores), 1)


def by_teacher(student: Tensor, teacher: Tensor) -> Tensor:
    each = -(teacher.detach().softmax(1) * student.log_softmax(1)).sum(1)
    return each.sum() / max(len(each), 1)


def of_a_set(x: Tensor, y: Tensor) -> Tensor:
    """Nothing in its names or behaviour says that it is one of sets."""
    each = -x.log_softmax(2).mean(1).gather(1, y)
    return each.sum() / max(y.numel(), 1)
