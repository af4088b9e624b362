"""Metrix: mixed embeddings are partly positive, partly negative items of a loss of pairs."""

from typing import Annotated, Literal

import torch
from torch import Tensor

from lossary._core.checks import check_undivided
from lossary._core.objective import reduce, widen
from lossary._core.parameters import Fraction, NonNegative, OneOf, Positive, Real, SetReduction, formula
from lossary._core.registry import objective
from lossary._fast.pairs.rule import Pairs, log_sum_exp, sum_over_rows, unit
from lossary.losses.embedding._common import MetricObjective, check_embedding_and_labels

Base = Annotated[Literal["contrastive", "multi_similarity"], OneOf(("contrastive", "multi_similarity"))]
Mixed = Annotated[
    Literal["positive_negative", "anchor_negative", "alternate"], OneOf(("positive_negative", "anchor_negative", "alternate"))
]
DRAWS = 8  # mixed items for each sample of the batch, of the N^3 that there are


def mix_inputs(
    inputs: Tensor, labels: Tensor, *, alpha: Positive = 2.0, mix: Fraction | None = None, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Each sample mixed with another one: mixed inputs, the labels of both, and the share of the first.

    Args:
        inputs: samples (N, \\*) of any kind, such as images or features.
        labels: (N,) their classes.
        alpha: shares are drawn from Beta(alpha, alpha), one for each pair.
        mix: the share of the first, if it is not to be drawn.
        generator: where random numbers come from; torch's global generator by default.
    """
    partner = torch.randperm(len(inputs), generator=generator, device=_drawn_on(generator, inputs)).to(inputs.device)
    share = _shares(len(inputs), alpha, mix, generator, inputs)
    spread = share.view(-1, *[1] * (inputs.ndim - 1))
    return spread * inputs + (1 - spread) * inputs[partner], labels, labels[partner], share


def _shares(count: int, alpha: float, mix: float | None, generator: torch.Generator | None, like: Tensor) -> Tensor:
    if mix is not None:
        return like.new_full((count,), mix)
    alphas = torch.full((2, count), alpha, dtype=torch.float32, device=_drawn_on(generator, like))
    drawn = torch._standard_gamma(alphas, generator=generator)
    return (drawn[0] / drawn.sum(0)).to(like)


def _drawn_on(generator: torch.Generator | None, like: Tensor) -> torch.device:
    """A generator draws on its own device alone."""
    return like.device if generator is None else generator.device


@formula
def metrix(
    embedding: Tensor,
    labels: Tensor,
    generator: torch.Generator | None = None,
    *,
    base: Base = "contrastive",
    mixed_weight: NonNegative = 0.4,
    alpha: Positive = 2.0,
    mix: Fraction | None = None,
    pairs: Mixed = "positive_negative",
    margin: Real | None = None,
    beta: Positive = 18.0,
    gamma: Positive = 75.0,
    reduction: SetReduction = "mean",
) -> Tensor:
    """The pure function behind :class:`MetrixLoss`, with the same parameters."""
    check_embedding_and_labels("metrix", embedding, labels)
    check_undivided("metrix", embedding)
    at = margin if margin is not None else (0.5 if base == "contrastive" else 0.77)
    x = unit(widen(embedding))
    n = len(x)

    def of_items(s: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """The loss of an anchor whose items are positive and negative by these shares; items of neither share are none."""
        if base == "contrastive":
            count = ((positive > 0) | (negative > 0)).sum(1).clamp_min(1)
            weighed: Tensor = (negative * (s - at).relu() - positive * s).sum(1) / count
            return weighed
        one = torch.zeros_like(s[:, 0])  # the logarithm of the 1 in log(1 + sum)
        pull = log_sum_exp(positive.clamp_min(1e-30).log() - beta * (s - at), positive > 0)
        push = log_sum_exp(negative.clamp_min(1e-30).log() + gamma * (s - at), negative > 0)
        return torch.logaddexp(one, pull) / beta + torch.logaddexp(one, push) / gamma

    def clean(s: Tensor, p: Pairs) -> tuple[Tensor, ...]:
        usable = p.positive.any(1) & p.negative.any(1)
        return of_items(s, p.positive.to(s.dtype), p.negative.to(s.dtype)) * usable, usable.to(s.dtype)

    total, count = sum_over_rows(clean, x, labels=labels)
    found: Tensor = reduce(total, count, reduction)
    if mixed_weight == 0 or n < 2:
        return found
    usable = _usable(labels)
    with_anchor = pairs == "anchor_negative"
    if pairs == "alternate":
        at_device = torch.device("cpu") if generator is None else generator.device  # whose accelerator is waited for, once
        with_anchor = bool(torch.rand((), generator=generator, device=at_device) < 0.5)
    if with_anchor:
        share = _shares(n, alpha, mix, generator, x)

        def mixed(s: Tensor, p: Pairs) -> tuple[Tensor, ...]:
            a, is_usable = (side[:, None] for side in p.anchor_sides)
            length = (a.square() + (1 - a).square() + 2 * a * (1 - a) * s).clamp_min(1e-12).sqrt()
            items = p.negative.to(s.dtype) * is_usable
            return (of_items((a + (1 - a) * s) / length, items * a, items * (1 - a)),)

        (total,) = sum_over_rows(mixed, x, labels=labels, anchor_sides=[share, usable])
    else:
        place = torch.arange(n, device=x.device).repeat(DRAWS)
        partner = torch.randint(n, (n * DRAWS,), generator=generator, device=_drawn_on(generator, x)).to(x.device)
        share = _shares(n * DRAWS, alpha, mix, generator, x)
        bank = unit(share[:, None] * x[place] + (1 - share[:, None]) * x[partner])

        def mixed(s: Tensor, p: Pairs) -> tuple[Tensor, ...]:
            positive, negative_label, a = p.item_sides
            is_usable, own_label = p.anchor_sides
            valid = p.same & (own_label[:, None] != negative_label) & (p.anchors[:, None] != positive)
            items = valid.to(s.dtype) * is_usable[:, None]
            return (of_items(s, items * a, items * (1 - a)),)

        (total,) = sum_over_rows(
            mixed,
            x,
            bank,
            labels=labels,
            item_labels=labels[place],
            anchor_sides=[usable, labels],
            item_sides=[place, labels[partner], share],
        )
    return found + reduce(total, count, reduction) * mixed_weight


def _usable(labels: Tensor) -> Tensor:
    """1.0 for the anchors that have both a positive and a negative."""
    labels = labels.long().contiguous()
    ascending = labels.sort().values
    size = torch.searchsorted(ascending, labels, right=True) - torch.searchsorted(ascending, labels)
    return ((size > 1) & (size < len(labels))).float()


@objective(
    family="embedding",
    function=metrix,
    soft_targets=False,
    decomposable=False,
    spatial=False,
    stochastic=True,
    link="value",
    distributed="inexact",
    tune={"mixed_weight": (0.1, 1.0)},
)
class MetrixLoss(MetricObjective):
    r"""Metrix: mixes a positive with a negative, and treats the mixture as partly positive.

    .. math:: \ell_i = S^+\Bigl( \sum_x y_x R^+(s_{ix}) \Bigr) + S^-\Bigl( \sum_x (1 - y_x) R^-(s_{ix}) \Bigr)

    once over the clean items of the batch, whose y is 1 or 0, and, weighed by w, over mixed ones, the unit vector along
    lambda p + (1 - lambda) n of a positive p and a negative n of the anchor, whose y is lambda. Contrastive: S is the identity,
    R+ = -s and R- = [s - m]+, divided by the number of items. Multi-similarity: log(1 + sum) over beta or gamma, of exponentials of
    -beta (s - m) and gamma (s - m). The mean is over anchors that have both a positive and a negative.

    Of all N^3 mixtures, eight for each sample of the batch are drawn, with a partner at random; an anchor meets those of its own
    class's samples with another class's. The memory does not grow with the square of the batch. It takes no ``group``, as processes
    that draw apart do not mix what one process would; with the embeddings and labels of all, by
    :func:`lossary.distributed.all_items`, and generators of one seed, they do. Mixing at the input or inside of the model is
    :func:`lossary.functional.mix_inputs`. In the authors' program for multi-similarity the mixed negatives are never used, and one
    lambda serves a whole batch.

    Args:
        base: the loss of pairs that is mixed.
        mixed_weight: w; 0 is the clean loss.
        alpha: lambda is drawn from Beta(alpha, alpha), for each mixed item.
        mix: lambda, if it is not to be drawn.
        pairs: whether the anchor's negatives are mixed with its positives, with the anchor itself, or with either by chance in
            turn.
        margin: the similarity m; 0.5 for contrastive, 0.77 for multi-similarity.
        beta, gamma: the slopes of multi-similarity.
        reduction: over the anchors.
    Shape: embedding (N, D); labels (N,) integers; generator: where random numbers come from, torch's global generator by default.
    Units: cosines.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Venkataramanan, Psomas, Kijak, Amsaleg, Karantzalos and Avrithis, "It Takes Two to Tango: Mixup for Deep Metric
        Learning", 2021, with embeddings mixed.

    >>> x = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [0.6, 0.8]])
    >>> MetrixLoss(mixed_weight=0.0)(x, torch.tensor([0, 0, 1, 1]))
    tensor(-0.1567)
    """

    def __init__(
        self,
        *,
        base: Base = "contrastive",
        mixed_weight: NonNegative = 0.4,
        alpha: Positive = 2.0,
        mix: Fraction | None = None,
        pairs: Mixed = "positive_negative",
        margin: Real | None = None,
        beta: Positive = 18.0,
        gamma: Positive = 75.0,
        reduction: SetReduction = "mean",
    ):
        super().__init__(
            base=base,
            mixed_weight=mixed_weight,
            alpha=alpha,
            mix=mix,
            pairs=pairs,
            margin=margin,
            beta=beta,
            gamma=gamma,
            reduction=reduction,
        )

    def forward(self, embedding: Tensor, labels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.function(embedding, labels, generator, **self.hyperparameters())
