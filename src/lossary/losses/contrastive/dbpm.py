"""DBPM: positive pairs that stay too easy or too hard count less."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from lossary._core.checks import check_integers, check_pair, check_shape, check_tensor
from lossary._core.objective import Objective, widen
from lossary._core.parameters import Fraction, NonNegative, Positive, PositiveCount, SetReduction, done, formula
from lossary._core.registry import objective
from lossary._fast.pairs.rule import Pairs, against_all, log_sum_exp, over_rows, unit
from lossary.distributed import Group, Ring, all_items
from lossary.errors import InvalidTypeError
from lossary.losses.contrastive._common import direction


@formula
def dbpm(
    a: Tensor,
    b: Tensor,
    index: Tensor,
    flagged: Tensor,
    mean: Tensor,
    deviation: Tensor,
    *,
    temperature: Positive = 0.2,
    base: nn.Module | None = None,
    cap: bool = False,
    group: Group = None,
    reduction: SetReduction = "mean",
) -> tuple[Tensor, Tensor]:
    """The pure function behind :class:`DBPMLoss`: the loss, and each sample's own loss (N,), to be remembered.

    ``flagged`` (number of samples,) says which pairs are bad, ``mean`` and ``deviation`` are of the losses of all samples, as
    :func:`bad_pairs` finds them.
    """
    check_pair("dbpm", a, b)
    check_integers("dbpm", "index", index)
    check_shape("dbpm", "index", index, (a.shape[0],))
    index = index.long()
    if base is None:
        per_sample = _two_view_contrast(a, b, temperature, group)
    else:
        per_sample = base(a, b)
        check_tensor("dbpm", "base(a, b)", per_sample)
        check_shape("dbpm", "base(a, b)", per_sample, (a.shape[0],))
    now, middle, spread = per_sample.detach(), mean.to(per_sample.dtype), deviation.to(per_sample.dtype)
    spread = torch.where(spread > 0, spread, 1.0)
    density = (-((now - middle) / spread).square() / 2).exp() / (spread * math.sqrt(2 * math.pi))
    weight = torch.where(flagged.index_select(0, index), density.clamp_max(1.0) if cap else density, 1.0)
    return Ring("dbpm", a, group).reduced((weight * per_sample).sum(), reduction), now


def _two_view_contrast(a: Tensor, b: Tensor, temperature: float, group: Group) -> Tensor:
    """NT-Xent of each pair: the mean of both directions, each against all other views of the batch."""
    views, n = unit(widen(torch.cat([a, b]))), a.shape[0]

    def row(c: Tensor, pairs: Pairs) -> tuple[Tensor]:
        return (log_sum_exp(c / temperature, ~pairs.itself),)

    (others,) = over_rows(row, **against_all("dbpm", views, group=group))
    return (others - (views * views.roll(n, 0)).sum(1) / temperature).view(2, n).mean(0)


def bad_pairs(
    history: Tensor, epoch: int, *, noisy_threshold: float = 2.0, faulty_threshold: float = 2.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Which pairs' losses were suspiciously low or high before an epoch (samples,), and all pairs' mean and deviation.

    ``history`` (samples, epochs) holds the losses, NaN where a sample was not seen. Later epochs weigh more; pairs that were never
    seen are not flagged.
    """
    epochs = history.shape[1]
    ramp = torch.arange(1, epoch + 1, device=history.device, dtype=history.dtype) / epochs
    of_sample = (history[:, :epoch] * ramp).nanmean(1)
    known = of_sample.isfinite()
    count = known.sum().clamp_min(1)
    mean = torch.where(known, of_sample, 0.0).sum() / count
    deviation = (torch.where(known, of_sample - mean, 0.0).square().sum() / count).sqrt()
    noisy = of_sample <= mean - noisy_threshold * deviation
    faulty = of_sample >= mean + faulty_threshold * deviation
    # if all losses are equal, none stands out
    return (noisy | faulty) & known & (deviation > 0), mean, deviation


@objective(
    family="contrastive",
    function=dbpm,
    soft_targets=False,
    decomposable=False,
    spatial=False,
    value_is_objective=False,
    link="scores",
    vmap=False,  # it writes into its memory
    distributed="inexact",
    tune={"temperature": (0.05, 1.0)},
)
class DBPMLoss(Objective):
    r"""DBPM: positive pairs whose loss stays suspiciously low or high over the epochs count less.

    .. math::
        L = \frac{1}{N} \sum_i w_i \ell_i, \qquad
        w_i = \begin{cases} \mathcal{N}(\ell_i; \mu, \sigma) & m_i \le \mu - b_n \sigma \text{ or } m_i \ge \mu + b_f \sigma \\
            1 & \text{otherwise} \end{cases}, \qquad
        m_i = \frac{1}{e} \sum_{k < e} \frac{k + 1}{E} \ell_i^{(k)}

    The loss of each positive pair is remembered for every epoch. Once the warm-up is over, pairs that were always easy (both views
    show the same noise) or always hard (an augmentation has destroyed the signal) are found anew at the start of each epoch e of
    E, by their distance from the mean of all pairs, and weighted by the normal density of their present loss. Nothing is learned.

    The density is that of the authors' program: it may be above 1 where sigma is below 0.4, which ``cap`` prevents, and since m
    shrinks the losses of early epochs and the density takes the loss as it is, most flagged pairs count for next to nothing.

    With ``group`` each process remembers the losses that all of them found, and so flags the pairs that one process would flag.
    Without it ``DistributedDataParallel`` overwrites the memory of all processes by that of the first.

    Args:
        num_samples: the size of the training set.
        num_epochs: how many epochs E there are; epoch e is the time from ``progress`` e / E on.
        warmup: the fraction of training before any pair is weighted; the authors take 50 of 80 epochs.
        noisy_threshold: how many deviations below the mean b_n a pair is too easy.
        faulty_threshold: how many deviations above the mean b_f a pair is too hard.
        temperature: of the contrast (NT-Xent, the mean of both directions); without meaning if ``base`` is given.
        base: another loss, a module that gives (N,) for ``base(a, b)``, such as one with ``reduction="none"``.
        cap: whether a weight is at most 1.
        group: the processes whose samples are negatives too: None for this one alone, ``"world"``, or a process group. The mean
            over them of the loss and of its gradients is that of one process with the whole batch; a ``base`` that compares
            samples has to be given it as well.
        reduction: ``"mean"`` over the samples, or ``"sum"``.
    Shape: a and b (N, D), of any length; index (N,) int64, the places of the samples in the training set; progress, the fraction of
        training done, from 0 to 1. A sample that comes twice in an epoch is remembered by its last visit.
    Units: nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Lan, Yan, Hong and Feng, "Towards Enhancing Time Series Contrastive Learning: A Dynamic Bad Pair Mining Approach", 2023.

    >>> loss = DBPMLoss(num_samples=100)
    >>> loss(torch.eye(3), torch.eye(3) + 0.5, torch.tensor([7, 42, 99]), progress=0.0)
    tensor(0.2982)
    >>> loss.history[42, 0]
    tensor(0.2982)
    """

    consumes = "embedding"
    requires = ("index", "progress")
    history: Tensor
    flagged: Tensor
    mean: Tensor
    deviation: Tensor
    mined: Tensor
    group: Group
    num_epochs: int
    warmup: float
    noisy_threshold: float
    faulty_threshold: float

    def __init__(
        self,
        *,
        num_samples: PositiveCount,
        num_epochs: PositiveCount = 80,
        warmup: Fraction = 0.625,
        noisy_threshold: NonNegative = 2.0,
        faulty_threshold: NonNegative = 2.0,
        temperature: Positive = 0.2,
        base: nn.Module | None = None,
        cap: bool = False,
        group: Group = None,
        reduction: SetReduction = "mean",
    ):
        if base is not None and not isinstance(base, nn.Module):
            raise InvalidTypeError(f"dbpm: base must be a torch.nn.Module or None, got {type(base).__name__}")
        super().__init__(
            num_samples=num_samples,
            num_epochs=num_epochs,
            warmup=warmup,
            noisy_threshold=noisy_threshold,
            faulty_threshold=faulty_threshold,
            temperature=temperature,
            base=base,
            cap=cap,
            group=group,
            reduction=reduction,
        )
        self.register_buffer("history", torch.empty(num_samples, num_epochs))
        self.register_buffer("flagged", torch.empty(num_samples, dtype=torch.bool))
        self.register_buffer("mean", torch.empty(()))
        self.register_buffer("deviation", torch.empty(()))
        self.register_buffer("mined", torch.empty((), dtype=torch.int64))  # the epoch at whose start pairs were last flagged
        self.reset_parameters()

    def reset_parameters(self) -> None:
        self.history.fill_(torch.nan)
        self.flagged.fill_(False)
        self.mean.zero_()
        self.deviation.zero_()
        self.mined.fill_(-1)

    def forward(self, a: Tensor, b: Tensor, index: Tensor, progress: float) -> Tensor:
        progress = done("dbpm", progress)
        epoch = min(int(progress * self.num_epochs + 1e-6), self.num_epochs - 1)  # 7 / 80 * 80 is less than 7 in floating point
        if self.training:
            self._mine(epoch)
        parameters: dict[str, Any] = self.hyperparameters()
        for name in ("num_samples", "num_epochs", "warmup", "noisy_threshold", "faulty_threshold"):
            del parameters[name]
        loss, per_sample = dbpm(a, b, index, self.flagged, self.mean, self.deviation, **parameters)
        if self.training:
            visited, losses = (all_items("dbpm", x, self.group).items for x in (index.long(), per_sample))
            self.history[visited, epoch] = losses.to(self.history.dtype)
        return loss

    @torch.no_grad()
    def _mine(self, epoch: int) -> None:
        """Flag pairs anew where an epoch after the warm-up begins."""
        if epoch < self.warmup * self.num_epochs - 1e-6 or epoch == 0 or epoch == int(self.mined):
            return
        thresholds = {"noisy_threshold": self.noisy_threshold, "faulty_threshold": self.faulty_threshold}
        found = bad_pairs(self.history, epoch, **thresholds)
        for memory, value in zip((self.flagged, self.mean, self.deviation), found, strict=True):
            memory.copy_(value)
        self.mined.fill_(epoch)

    def link(self, output: Tensor) -> Tensor:
        return direction(output)
