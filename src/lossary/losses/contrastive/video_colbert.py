"""Video-ColBERT: sigmoid contrast of sets of tokens, of frames and of the video."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from lossary._core.checks import check_floating, check_shape, check_tensor, shape_text
from lossary._core.objective import Objective, widen, without_autocast
from lossary._core.parameters import Real, Reduction, formula
from lossary._core.registry import objective
from lossary._fast import dispatch
from lossary._fast.pairs.rule import unit
from lossary.distributed import Group, Ring, all_items
from lossary.errors import InvalidTypeError, InvalidValueError
from lossary.losses.contrastive._common import direction
from lossary.losses.contrastive.siglip import LOG_SCALE

BLOCK = 1 << 20  # similarities of tokens that are held at once


def mean_max_sim(query: Tensor, document: Tensor, query_mask: Tensor | None = None, document_mask: Tensor | None = None) -> Tensor:
    r"""Late interaction: how well each query's tokens find a like token in each document.

    .. math:: S_{nm} = \frac{1}{L_q} \sum_i \max_j \cos(q_{ni}, d_{mj})

    A mean over the query's real tokens, not ColBERT's sum, so that the length of a query does not set the scale.

    Args:
        query: (N, Lq, D).
        document: (M, Lx, D).
        query_mask, document_mask: (N, Lq) and (M, Lx) bool, True for real tokens; each row needs one.
    Returns: the scores (N, M), in [-1, 1].

    >>> q, d = torch.eye(2).unsqueeze(0), torch.tensor([[[1.0, 0.0]], [[0.6, 0.8]]])
    >>> mean_max_sim(q, d)
    tensor([[0.5000, 0.7000]])
    """
    owner = "mean_max_sim"
    q, d = _tokens(owner, "query", query, query_mask), _tokens(owner, "document", document, document_mask)
    if q.shape[2] != d.shape[2]:
        raise InvalidValueError(f"{owner}: document must have shape (M, Lx, {q.shape[2]}), got {shape_text(tuple(document.shape))}")
    with without_autocast(q):
        if _whole(q, d, query_mask, document_mask):
            return _scores(q, d, query_mask, document_mask)
        found: Tensor = _InBlocks.apply(q, d, query_mask, document_mask)  # type: ignore[no-untyped-call]
    return found


@formula
def video_colbert(
    query: Tensor,
    frame: Tensor,
    log_scale: Tensor,
    bias: Tensor,
    video: Tensor | None = None,
    query_mask: Tensor | None = None,
    frame_mask: Tensor | None = None,
    video_mask: Tensor | None = None,
    *,
    group: Group = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`VideoColBERTLoss`; scale and bias are scalars, or (2,) for frames and video."""
    owner = "video_colbert"
    q, f = _tokens(owner, "query", query, query_mask), _tokens(owner, "frame", frame, frame_mask)
    ring = Ring(owner, f, group)
    rows = []
    branches = [("frame", frame, f, frame_mask)]
    if video is not None:
        branches.append(("video", video, _tokens(owner, "video", video, video_mask), video_mask))
    for place, (name, given, tokens, mask) in enumerate(branches):
        if tokens.shape[0] != q.shape[0] or tokens.shape[2] != q.shape[2]:
            allowed = f"({q.shape[0]}, L, {q.shape[2]})"
            raise InvalidValueError(f"{owner}: {name} must have shape {allowed}, got {shape_text(tuple(given.shape))}")
        scale, shift = (x if x.ndim == 0 else x[place] for x in (log_scale, bias))
        documents = all_items(owner, tokens, group).items
        masks = None if mask is None else all_items(owner, mask, group).items
        with without_autocast(q):
            rows.append(_branch(q, documents, query_mask, masks, scale, shift, ring.start, summed=reduction != "none"))
    found = sum(rows[1:], rows[0])
    return found if reduction == "none" else ring.reduced(found, reduction)


def _tokens(owner: str, argument: str, x: Tensor, mask: Tensor | None) -> Tensor:
    """Tokens (N, L, D) of length one."""
    check_floating(owner, argument, x)
    if x.ndim != 3 or x.shape[1] == 0:
        raise InvalidValueError(f"{owner}: {argument} must have shape (N, L, D) with L > 0, got {shape_text(tuple(x.shape))}")
    if mask is not None:
        check_tensor(owner, f"{argument}_mask", mask)
        check_shape(owner, f"{argument}_mask", mask, tuple(x.shape[:2]))
        if mask.dtype != torch.bool:
            raise InvalidTypeError(f"{owner}: {argument}_mask must be bool, got {mask.dtype}")
        if dispatch.can_look(mask) and not bool(mask.any(1).all()):
            raise InvalidValueError(f"{owner}: {argument}_mask must have a real token in every row, got a row without one")
    return unit(widen(x))


def _whole(q: Tensor, d: Tensor, *others: Tensor | None) -> bool:
    return not dispatch.untransformed(q, d, *others) or len(q) * len(d) * q.shape[1] * d.shape[1] <= _size(q)


def _size(q: Tensor) -> int:
    return BLOCK if q.is_cpu else dispatch.ACCELERATOR_BLOCK


def _scores(q: Tensor, d: Tensor, query_mask: Tensor | None, document_mask: Tensor | None) -> Tensor:
    s = torch.einsum("nid,mjd->nimj", q, d)
    if document_mask is not None:
        s = s.masked_fill(~document_mask, -torch.inf)
    best = s.max(3).values  # (N, Lq, M)
    if query_mask is None:
        return best.mean(1)
    real = query_mask.unsqueeze(2)
    return best.masked_fill(~real, 0.0).sum(1) / real.sum(1)


def _parts(q: Tensor, d: Tensor) -> Iterator[tuple[slice, slice]]:
    """Queries and documents with about a block of similarities of tokens."""
    each = max(1, math.isqrt(_size(q) // (q.shape[1] * d.shape[1])))
    for start in range(0, len(q), each):
        for other in range(0, len(d), each):
            yield slice(start, start + each), slice(other, other + each)


def _part(x: Tensor | None, rows: slice) -> Tensor | None:
    return None if x is None else x[rows]


class _InBlocks(torch.autograd.Function):
    """The matrix of scores; similarities of tokens are computed again in backward instead of kept."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, d: Tensor, query_mask: Tensor | None, document_mask: Tensor | None) -> Tensor:
        ctx.save_for_backward(q, d, query_mask, document_mask)
        out = q.new_empty(len(q), len(d))
        for rows, columns in _parts(q, d):
            out[rows, columns] = _scores(q[rows], d[columns], _part(query_mask, rows), _part(document_mask, columns))
        return out

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        q, d, query_mask, document_mask = ctx.saved_tensors
        if torch.is_grad_enabled():  # somebody wants to differentiate the gradient
            return (*torch.func.vjp(lambda q, d: _scores(q, d, query_mask, document_mask), q, d)[1](upstream), None, None)
        by_q, by_d = torch.zeros_like(q), torch.zeros_like(d)
        for rows, columns in _parts(q, d):
            with torch.enable_grad():
                leaves = q[rows].detach().requires_grad_(), d[columns].detach().requires_grad_()
                scores = _scores(*leaves, _part(query_mask, rows), _part(document_mask, columns))
            part = torch.autograd.grad(scores, leaves, upstream[rows, columns])
            by_q[rows] += part[0]
            by_d[columns] += part[1]
        return by_q, by_d, None, None


def _branch(
    q: Tensor,
    d: Tensor,
    query_mask: Tensor | None,
    document_mask: Tensor | None,
    log_scale: Tensor,
    bias: Tensor,
    start: int,
    *,
    summed: bool,
) -> Tensor:
    """SigLIP's terms of the scores, added up for each query, or for all: row i belongs to document ``start + i``."""
    fixed = (query_mask, document_mask, start)
    if _whole(q, d, query_mask, document_mask, log_scale, bias):
        rows = _terms(q, d, log_scale, bias, *fixed)
        return rows.sum() if summed else rows
    found: Tensor = _Branch.apply(q, d, log_scale, bias, fixed, summed, torch.is_grad_enabled())  # type: ignore[no-untyped-call]
    return found


def _terms(
    q: Tensor, d: Tensor, log_scale: Tensor, bias: Tensor, query_mask: Tensor | None, document_mask: Tensor | None, start: int
) -> Tensor:
    z = log_scale.exp() * _scores(q, d, query_mask, document_mask) + bias
    own = torch.arange(len(q), device=q.device)[:, None] + start == torch.arange(len(d), device=q.device)
    return softplus(torch.where(own, -z, z), threshold=40).sum(1)


class _Branch(torch.autograd.Function):
    """The same block by block; a sum brings its gradient with it, and rows are computed again for theirs."""

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        d: Tensor,
        log_scale: Tensor,
        bias: Tensor,
        fixed: tuple[Tensor | None, Tensor | None, int],
        summed: bool,
        differentiable: bool,
    ) -> Tensor:
        ctx.start, ctx.summed = fixed[2], summed
        value = q.new_zeros(len(q))
        with_slopes = summed and differentiable and any(ctx.needs_input_grad)
        slopes = _sweep((q, d, log_scale, bias), fixed, value, None, with_slopes=with_slopes)
        ctx.save_for_backward(q, d, log_scale, bias, *fixed[:2], *slopes)
        return value.sum() if summed else value

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Any, ...]:
        inputs, fixed, slopes = ctx.saved_tensors[:4], (*ctx.saved_tensors[4:6], ctx.start), ctx.saved_tensors[6:]
        if torch.is_grad_enabled():  # somebody wants to differentiate the gradient

            def plain(*inputs: Tensor) -> Tensor:
                q, d, log_scale, bias = inputs
                rows = _terms(q, d, log_scale, bias, *fixed)
                return rows.sum() if ctx.summed else rows

            return (*torch.func.vjp(plain, *inputs)[1](upstream), None, None, None)
        if slopes:
            return (*[x * upstream for x in slopes], None, None, None)
        rows = upstream.expand(len(inputs[0]))
        return (*_sweep(inputs, fixed, torch.zeros_like(rows), rows, with_slopes=True), None, None, None)


def _sweep(
    inputs: tuple[Tensor, ...],
    fixed: tuple[Tensor | None, Tensor | None, int],
    value: Tensor,
    upstream: Tensor | None,
    with_slopes: bool,
) -> list[Tensor]:
    """Add the terms of all blocks to ``value``, and return their gradient by the inputs, if it is wanted."""
    q, d, log_scale, bias = (x.detach() for x in inputs)
    query_mask, document_mask, start = fixed
    slopes = [torch.zeros_like(x) for x in inputs] if with_slopes else []
    for rows, columns in _parts(q, d):
        masks = _part(query_mask, rows), _part(document_mask, columns)
        with torch.set_grad_enabled(with_slopes):
            a, b, t, shift = leaves = [x.detach().requires_grad_(with_slopes) for x in (q[rows], d[columns], log_scale, bias)]
            terms = _terms(a, b, t, shift, *masks, start + rows.start - columns.start)
        value[rows] += terms.detach()
        if with_slopes:
            flow = torch.ones_like(terms) if upstream is None else upstream[rows]
            parts = torch.autograd.grad(terms, leaves, flow)
            places = slopes[0][rows], slopes[1][columns], slopes[2], slopes[3]
            for place, part in zip(places, parts, strict=True):
                place += part
    return slopes


@objective(
    family="contrastive",
    function=video_colbert,
    soft_targets=False,
    decomposable=False,
    spatial=False,
    link="scores",
    distributed="inexact",
)
class VideoColBERTLoss(Objective):
    r"""Video-ColBERT: sigmoid contrast of sets of tokens, of frames and of the video.

    .. math::
        L = \sum_{S \in \{A, B\}} \frac1N \sum_{ij} -\log \sigma(z_{ij} (t S_{ij} + \beta)), \qquad
        A_{ij} = \mathrm{MMS}(q_i, f_j), \quad B_{ij} = \mathrm{MMS}(q_i, v_j)

    MMS (:func:`lossary.functional.mean_max_sim`) is the mean over a query's tokens of the most similar token's cosine; z is 1 for
    pairs that belong together and -1 for others. Two losses, one for the frames as they are encoded one by one and one for the
    video after its temporal layers; retrieval adds both scores up. Similarities of tokens are held for a block of queries and
    documents at a time, and no matrix of scores is whole. Whether both losses share scale and bias, and where these start, is not
    printed: they are shared and start as SigLIP's.

    Args:
        init_log_scale, init_bias: where the logarithm of the scale and the bias start; both are parameters of this loss, to be
            trained without weight decay.
        shared_scale: whether frames and video have one scale and bias.
        group: the processes whose documents are negatives too: None for this one alone, ``"world"``, or a process group. The mean
            over them of the loss and of its gradients is that of one process with the whole batch.
        reduction: as in :class:`torch.nn.CrossEntropyLoss`; ``"none"`` gives the loss of each query.
    Shape: query (N, Lq, D), frame (N, Lf, D), video (N, Lv, D) or None for the frames alone, of any length; masks (N, L) bool, True
        for real tokens.
    Units: nats.
    Errors: a shape or dtype other than these, a row without a real token, or a parameter outside its range, is a ``LossaryError``.
    Source: Reddy and others, "Video-ColBERT: Contextualized Late Interaction for Text-to-Video Retrieval", 2025.

    >>> x = torch.eye(2).unsqueeze(1)
    >>> VideoColBERTLoss()(x, x).detach()
    tensor(0.6932)
    """

    consumes = "embedding"
    init_log_scale: float
    init_bias: float
    log_scale: Tensor
    bias: Tensor

    def __init__(
        self,
        *,
        init_log_scale: Real = LOG_SCALE,
        init_bias: Real = -10.0,
        shared_scale: bool = True,
        group: Group = None,
        reduction: Reduction = "mean",
    ):
        super().__init__(
            init_log_scale=init_log_scale, init_bias=init_bias, shared_scale=shared_scale, group=group, reduction=reduction
        )
        size = () if shared_scale else (2,)
        self.log_scale = nn.Parameter(torch.empty(size))
        self.bias = nn.Parameter(torch.empty(size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.constant_(self.log_scale, self.init_log_scale)
        nn.init.constant_(self.bias, self.init_bias)

    def forward(
        self,
        query: Tensor,
        frame: Tensor,
        video: Tensor | None = None,
        query_mask: Tensor | None = None,
        frame_mask: Tensor | None = None,
        video_mask: Tensor | None = None,
    ) -> Tensor:
        given = self.hyperparameters()
        return self.function(
            query,
            frame,
            self.log_scale,
            self.bias,
            video,
            query_mask,
            frame_mask,
            video_mask,
            group=given["group"],
            reduction=given["reduction"],
        )

    def link(self, output: Tensor) -> Tensor:
        return direction(output)
