"""EnsLoss: for every batch another random convex loss, given by its slopes alone."""

import functools
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from lossary._core.checks import check_element_inputs, check_floating, check_shape
from lossary._core.objective import SigmoidObjective, reduce, widen
from lossary._core.parameters import Real, SetReduction, formula
from lossary._core.registry import objective
from lossary._fast import dispatch
from lossary._fast.one_pass import in_one_pass
from lossary.losses.multilabel._common import flat

MOST = 1 << 32  # labels that a key has room for
SMALLEST = 1e-30  # what single precision takes for 0


def inverse_box_cox(noise: Tensor, box_cox: float) -> Tensor:
    """max(1 + lambda e, 0) ^ (1 / lambda), and its limit e ^ noise for lambda = 0; for a negative lambda it may be infinite."""
    if abs(box_cox) < SMALLEST:
        return noise.exp()
    return (torch.log1p((box_cox * noise).clamp_min(-1.0)) / box_cox).exp()


def slopes(margins: Tensor, noise: Tensor, box_cox: float) -> Tensor:
    """A random slope for each margin (n,): negative, and steeper for a smaller margin, as the slopes of a convex loss are."""
    drawn = -inverse_box_cox(noise, box_cox).clamp_max(1.0)
    ordered = torch.zeros_like(margins).scatter(0, margins.argsort(stable=True), drawn.sort().values)
    return ordered / margins.clamp_min(1.0) - 1e-6


@formula
def ensloss(
    logits: Tensor,
    target: Tensor,
    noise: Tensor | None = None,
    *,
    box_cox: Real = 0.0,
    generator: torch.Generator | None = None,
    reduction: SetReduction = "mean",
) -> Tensor:
    """The pure function behind :class:`EnsLoss`, with the same parameters; ``noise`` is what it draws if it is not given:
    standard normal numbers, one for each element."""
    check_element_inputs("ensloss", logits, target)
    if noise is None:
        noise = torch.empty(logits.shape, dtype=torch.float32, device=logits.device).normal_(generator=generator)
    else:
        check_floating("ensloss", "noise", noise)
        check_shape("ensloss", "noise", noise, tuple(logits.shape))
    if dispatch.take_compiled_loops(logits, target, noise) and logits.numel() < MOST:
        compute, plain = functools.partial(_in_a_loop, box_cox, reduction), functools.partial(_plain, box_cox, reduction)
        found: Tensor = in_one_pass(compute, plain, logits, target, noise)
        return found
    return _plain(box_cox, reduction, logits, target, noise)


def _plain(box_cox: float, reduction: str, logits: Tensor, target: Tensor, noise: Tensor) -> Tensor:
    there = (logits != -torch.inf).flatten()  # a label that is masked is not there
    wide = widen(logits).flatten().masked_fill(~there, 0.0)
    margins = (2 * target.flatten().to(wide.dtype) - 1) * wide
    in_order = margins.detach().masked_fill(~there, torch.inf)
    loss = (slopes(in_order, noise.flatten().to(margins.dtype), box_cox) * margins).sum()
    return reduce(loss, there.sum(), reduction)


def _in_a_loop(
    box_cox: float, reduction: str, wanted: bool, logits: Tensor, target: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor | None]:
    from lossary.losses.multilabel import _loops  # which imports Numba

    z, y = flat(logits), flat(target)
    drawn = np.sort(flat(noise.float()))
    keys = np.empty(len(z), np.uint64)
    kept = _loops.keys_of_margins(z, y, keys)
    keys.sort()
    scale = 1.0 if reduction == "sum" else 1 / max(kept, 1)
    gradient = logits.new_empty(logits.shape) if wanted else None
    of_lambda = 0.0 if abs(box_cox) < SMALLEST else box_cox
    total = _loops.slopes_in_order(z, y, keys, drawn, of_lambda, scale, None if gradient is None else flat(gradient))
    return logits.new_tensor(total * scale), gradient


def hinge(logits: Tensor, target: Tensor, reduction: str) -> Tensor:
    """The fixed loss that stands in for the random ones in evaluation."""
    check_element_inputs("ensloss", logits, target)
    there = logits != -torch.inf
    wide = widen(logits).masked_fill(~there, 0.0)
    each = (1 - (2 * target.to(wide.dtype) - 1) * wide).clamp_min(0.0)
    return reduce(each.masked_fill(~there, 0.0), there.sum(), reduction)


@objective(
    family="multilabel",
    function=ensloss,
    decomposable=False,
    stochastic=True,
    distributed="inexact",
    link="ranking",
    value_is_objective=False,  # a sum of random slopes times margins is no loss
)
class EnsLoss(SigmoidObjective):
    r"""EnsLoss: each batch is trained with another random convex, calibrated loss, of which only the slopes are drawn.

    .. math::
        \mathcal{L} = \frac1n \sum_i \mathrm{sg}[g_i]\, s_i, \qquad s_i = (2 y_i - 1) z_i, \qquad
        g_i = \frac{r_{(i)}}{\max(s_i, 1)} - 10^{-6}, \qquad r = -\min(v, 1)

    where sg stops the gradient, v are random positive numbers (normal ones through an inverse Box-Cox transformation), and they are
    given out in order: the smallest margin gets the steepest slope. A network sees no loss twice, much as with dropout it sees no
    network twice, and overfits less to noisy labels. All elements of the batch share one order, so accumulating gradients over
    parts of a batch changes the method. Equal margins are ordered by their place. Sorting draws and margins takes most of its time,
    which is several times that of ``binary_cross_entropy``, and room for four numbers for each logit.

    While training the value means nothing. After ``eval()`` it is the hinge loss, which can be followed. Of the prediction only the
    side means something: ``link``, a sigmoid, is a ranking. Targets are 0 or 1; one in between scales its margin.

    Random numbers come from torch's global generator, as those of :class:`torch.nn.Dropout` do, or from the one given.

    Args:
        box_cox: lambda of the inverse Box-Cox transformation; at 0 the slopes are log-normal.
        resample_box_cox: draw another lambda from -1 to 1 at every ``epoch_end()``.
        generator: the source of the random numbers; it has to be on the device of the logits.
        reduction: ``"mean"``, the formula above, or ``"sum"``, which is that times the number of elements.
    Shape: logits and target of one shape (N, \*) or (N, L, \*).
    Units: none while training; those of the logits after ``eval()``.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Dai, "EnsLoss: Stochastic Calibrated Loss Ensembles for Preventing Overfitting in Classification", 2024. Which of the
        published versions of the program made the paper's tables is unclear; here lambda stays at 0 unless it is to be drawn.

    >>> EnsLoss().eval()(torch.tensor([2.0, -2.0]), torch.tensor([1.0, 1.0]))
    tensor(1.5000)
    """

    noise: ClassVar[None] = None  # drawn for each batch
    box_cox: float
    resample_box_cox: bool
    generator: torch.Generator | None
    reduction: Literal["mean", "sum"]

    def __init__(
        self,
        *,
        box_cox: Real = 0.0,
        resample_box_cox: bool = False,
        generator: torch.Generator | None = None,
        reduction: SetReduction = "mean",
    ):
        super().__init__(box_cox=box_cox, resample_box_cox=resample_box_cox, generator=generator, reduction=reduction)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        if not self.training:
            return hinge(logits, target, self.reduction)
        return ensloss(logits, target, box_cox=self.box_cox, generator=self.generator, reduction=self.reduction)

    def epoch_end(self) -> None:
        """Draw another lambda, if that was asked for. It is not kept in ``state_dict``, as every epoch has its own."""
        if self.resample_box_cox:
            device = self.generator.device if self.generator is not None else None
            self.box_cox = 2 * torch.rand((), generator=self.generator, device=device).item() - 1
