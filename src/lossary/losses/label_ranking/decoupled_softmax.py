"""Decoupled softmax: every right label competes with the wrong ones, and with no other right one."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from lossary._domains import OneOf, Positive, Reduction, formula
from lossary._objective import SoftmaxObjective, widen
from lossary._registry import objective
from lossary.losses.label_ranking._common import average_over_positives, check_rows_of_labels, positives

PositiveReduction = Annotated[Literal["mean", "sum"], OneOf(("mean", "sum"))]


SMALL = 1 << 16  # elements up to which plain operations take less time than blocks
BLOCK = 1 << 18  # elements of a block of rows, which stays in cache


def logsumexp_where(scores: Tensor, chosen: Tensor) -> Tensor:
    """The log of the sum of exponentials of a row's chosen scores (N, 1); of none it is -inf, with a gradient of zeros."""
    masked = scores.masked_fill(~chosen, -torch.inf)
    none = ~chosen.any(1, keepdim=True)
    largest = masked.detach().amax(1, keepdim=True).masked_fill(none, 0.0)
    total = (masked - largest).exp().sum(1, keepdim=True)
    return (largest + total.masked_fill(none, 1.0).log()).masked_fill(none, -torch.inf)


def sum_over_positives(logits: Tensor, positive: Tensor, temperature: float) -> Tensor:
    """The sum of log(e^s + sum of the negatives) - s over the positive labels of each row (N,)."""
    scores = widen(logits) / temperature
    of_label = -logsigmoid(scores - logsumexp_where(scores, ~positive))
    return of_label.masked_fill(~positive, 0.0).sum(1)


def blocks(logits: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Slices of rows, each with two buffers of its size, which are the same memory every time."""
    step = max(1, BLOCK // logits.shape[1])
    dtype = torch.promote_types(logits.dtype, torch.float32)
    buffers = logits.new_empty(2, min(step, logits.shape[0]), logits.shape[1], dtype=dtype)
    for start in range(0, logits.shape[0], step):
        rows = slice(start, min(start + step, logits.shape[0]))
        yield rows, *buffers[:, : rows.stop - rows.start]


class _SumOverPositives(torch.autograd.Function):
    """The same for many labels, and the log of the sum over the negatives: in blocks of rows, with the gradient in closed form.

    Derivatives of the gradient are taken of the plain operations.
    """

    @staticmethod
    def forward(logits: Tensor, positive: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        per_row, log_negatives = logits.new_empty(2, logits.shape[0], 1, dtype=torch.promote_types(logits.dtype, torch.float32))
        for rows, scores, buffer in blocks(logits):
            labels = positive[rows]
            scores.copy_(logits[rows]).div_(temperature)
            buffer.copy_(scores).masked_fill_(labels, -torch.inf)
            largest = buffer.amax(1, keepdim=True).clamp_min_(torch.finfo(scores.dtype).min)  # of none it is -inf
            log_negatives[rows] = largest + buffer.sub_(largest).exp_().sum(1, keepdim=True).log_()
            of_label = softplus(torch.sub(log_negatives[rows], scores, out=scores), threshold=40)
            per_row[rows] = of_label.mul_(labels).sum(1, keepdim=True)
        return per_row[:, 0], log_negatives

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        logits, positive, ctx.temperature = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(logits, positive, output[1])

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None]:
        logits, positive, log_negatives = ctx.saved_tensors
        if torch.is_grad_enabled():
            pull_back = torch.func.vjp(lambda z: sum_over_positives(z, positive, ctx.temperature), logits)[1]
            return pull_back(upstream[0])[0], None, None
        gradient = torch.empty_like(logits)
        for rows, odds, pull in blocks(logits):
            labels, up = positive[rows], upstream[0][rows, None] / ctx.temperature
            odds.copy_(logits[rows]).div_(ctx.temperature).sub_(log_negatives[rows]).exp_()  # against the negatives
            torch.add(odds, 1.0, out=pull).reciprocal_().mul_(labels)
            odds.masked_fill_(labels, 0.0).mul_(pull.sum(1, keepdim=True))
            gradient[rows] = odds.sub_(pull).mul_(up)
        return gradient, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], logits: Tensor, positive: Tensor, temperature: float) -> Any:
        stacked = [
            tensor.unsqueeze(0).expand(info.batch_size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
            for tensor, dim in ((logits, in_dims[0]), (positive, in_dims[1]))
        ]
        flat = _SumOverPositives.apply(*(tensor.flatten(0, 1) for tensor in stacked), temperature)  # type: ignore[no-untyped-call]
        return tuple(tensor.unflatten(0, stacked[0].shape[:2]) for tensor in flat), (0, 0)


@formula
def decoupled_softmax(
    logits: Tensor,
    target: Tensor,
    *,
    temperature: Positive = 1.0,
    positive_reduction: PositiveReduction = "mean",
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`DecoupledSoftmaxLoss`, with the same parameters."""
    check_rows_of_labels("decoupled_softmax", logits, target)
    positive = positives(target)
    if logits.numel() <= SMALL or torch.compiler.is_compiling():
        per_row = sum_over_positives(logits, positive, temperature)
    else:
        per_row, _ = _SumOverPositives.apply(logits, positive, temperature)  # type: ignore[no-untyped-call]
    return average_over_positives(per_row, positive.sum(1), positive_reduction, reduction)


@objective(family="label_ranking", function=decoupled_softmax, spatial=False, link="ranking", tune={"temperature": (0.05, 2.0)})
class DecoupledSoftmaxLoss(SoftmaxObjective):
    r"""Decoupled softmax: each positive label against the negative ones alone.

    .. math::
        \ell(z, P) = \frac{1}{|P|} \sum_{l \in P} \left[\log\!\Big(e^{s_l} + \sum_{j \notin P} e^{s_j}\Big) - s_l\right],
        \qquad s = z / \tau

    In an ordinary softmax over several right labels each of them pushes the others down; here none touches the term of another.
    With one positive label it is cross-entropy (InfoNCE). Nothing larger than the logits is made, as the negatives of a row are
    summed up once. Programs that mask scores with -100 are wrong for scores below it; any finite ones will do here.

    For two encoders the logits are ``normalize(queries) @ normalize(labels).T``, and the usual temperature is 0.05.

    Args:
        temperature: divides the logits.
        positive_reduction: ``"mean"`` over the positive labels of a row as in the authors' program, or ``"sum"`` as in the paper.
        reduction: over the rows; ``"none"`` has a value for each, 0 for a row without positive labels, which no mean counts.
    Shape: logits and target (N, L); a label is positive where its target is above 0.
    Units: nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Gupta, Khatri, Rawat, Bhojanapalli, Jain and Dhillon, "Dual-Encoders for Extreme Multi-Label Classification", 2023.

    >>> DecoupledSoftmaxLoss()(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[1, 1, 0]]))
    tensor(0.2201)
    """

    temperature: float

    def __init__(
        self,
        *,
        temperature: Positive = 1.0,
        positive_reduction: PositiveReduction = "mean",
        reduction: Reduction = "mean",
    ):
        super().__init__(temperature=temperature, positive_reduction=positive_reduction, reduction=reduction)

    def link(self, output: Tensor) -> Tensor:
        return (output / self.temperature).softmax(1)
