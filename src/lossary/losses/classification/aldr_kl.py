"""ALDR-KL: a loss that is robust over labels, with a temperature of its own for each sample."""

from typing import Annotated, Any

import torch
from torch import Tensor

from lossary._core.checks import check_class_inputs, check_floating, check_integers, check_shape, shape_text
from lossary._core.objective import Objective, reduce, widen
from lossary._core.parameters import Interval, NonNegative, Positive, PositiveCount, Reduction, formula
from lossary._core.registry import objective
from lossary.errors import InvalidValueError
from lossary.losses.classification._robust import Normalization, normalized

AboveOne = Annotated[float, Interval(low=1.0, open_low=True)]
LOWEST = 1e-3  # of the starting temperature: with alpha near 1 a certain sample's would be 0


@formula
def aldr_kl(
    logits: Tensor,
    target: Tensor,
    index: Tensor,
    sample_temperature: Tensor,
    *,
    temperature: Positive = 1.0,
    margin: NonNegative = 0.1,
    alpha: AboveOne = 2.0,
    normalize: Normalization | None = None,
    reduction: Reduction = "mean",
) -> tuple[Tensor, Tensor]:
    """The pure function behind :class:`AldrKlLoss`: the loss, and the new temperatures of the samples (N,)."""
    check_class_inputs("aldr_kl", logits, target, None, min_classes=2)
    if logits.ndim != 2 or target.ndim != 1:
        wrong, given = ("logits", logits) if logits.ndim != 2 else ("target", target)
        shape = "(N, C)" if wrong == "logits" else "(N,)"
        raise InvalidValueError(f"aldr_kl: {wrong} must have shape {shape}, got {shape_text(tuple(given.shape))}")
    check_integers("aldr_kl", "index", index)
    check_shape("aldr_kl", "index", index, (logits.shape[0],))
    check_floating("aldr_kl", "sample_temperature", sample_temperature)
    target, index = target.long(), index.long()

    z = normalized(widen(logits), normalize)
    there = z != -torch.inf  # a class that is masked does not count as one
    uniform = there.sum(1).to(z.dtype).log()
    others = (torch.arange(z.shape[1], device=z.device) != target.unsqueeze(1)).to(z.dtype)
    q = z - z.gather(1, target.unsqueeze(1)) + margin * others
    cost = alpha * uniform.clamp_min(torch.finfo(z.dtype).tiny)

    log_p = (q.detach() / sample_temperature.index_select(0, index).to(q.dtype).unsqueeze(1)).log_softmax(1)
    divergence = (log_p.exp() * log_p.masked_fill(~there, 0.0)).sum(1) + uniform
    new = (temperature * (1 - divergence / cost)).clamp(LOWEST * temperature, temperature)

    soft_maximum = new * ((q / new.unsqueeze(1)).logsumexp(1) - uniform)
    per_sample = soft_maximum - cost / (2 * temperature) * (new - temperature).square()
    return reduce(per_sample, per_sample.numel(), reduction), new


@objective(
    family="classification",
    function=aldr_kl,
    soft_targets=False,
    spatial=False,
    vmap=False,  # it writes into its memory
    tune={"temperature": (0.1, 10.0)},
    waivers={"gradcheck_float64": "the temperature of a sample is a constant in the gradient, though it depends on the logits"},
)
class AldrKlLoss(Objective):
    r"""ALDR-KL: a loss that is robust over labels, with a temperature of its own for each sample.

    .. math::
        \ell = \lambda_i \log \frac{1}{C} \sum_k e^{q_k / \lambda_i} - \frac{\alpha \log C}{2 \lambda_0} (\lambda_i - \lambda_0)^2,
        \qquad q_k = z_k - z_y + c \, [k \ne y]

    A sample's temperature takes one step at each visit, to :math:`\lambda_0 (1 - \mathrm{KL}(p \| u) / (\alpha \log C))` where p is
    the softmax of q over the stored temperature and u is uniform. Confident samples get a low temperature, which trusts their
    label; ambiguous ones stay at the starting temperature, which spreads the blame over all labels. With a high temperature the
    loss is the mean of q, which has no lower bound: use ``normalize="l1"`` there. The temperatures are part of ``state_dict`` (the
    authors' program keeps them outside of it), and stay as they are in ``eval()``.

    Args:
        num_samples: the size of the training set.
        temperature: the starting temperature lambda_0; the authors choose from 0.1, 1 and 10 on validation data.
        margin: the margin c, inside of the softmax as in the paper.
        alpha: how strongly a temperature is held at its start, above 1.
        normalize: divide the logits by their mean size, or 1e-3 if that is smaller still (``"l1"``), or make them positive with a
            mean of one (``"softplus"``); the authors' program always does one of them.
        reduction: as in :class:`torch.nn.CrossEntropyLoss`.
    Shape: logits (N, C) with C > 1; target (N,) class indices; index (N,) int64, the places of the samples in the training set.
    Units: logits.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Zhu, Ying and Yang, "Label Distributionally Robust Losses for Multi-class Classification: Consistency, Robustness and
        Adaptivity", 2021.

    >>> loss = AldrKlLoss(num_samples=100)
    >>> loss(torch.tensor([[2.0, 0.0, -2.0]]), torch.tensor([0]), torch.tensor([42]))
    tensor(-0.8229)
    >>> loss.sample_temperature[42]
    tensor(0.7127)
    """

    requires = ("index",)
    sample_temperature: Tensor
    num_samples: int
    temperature: float
    normalize: str | None

    def __init__(
        self,
        *,
        num_samples: PositiveCount,
        temperature: Positive = 1.0,
        margin: NonNegative = 0.1,
        alpha: AboveOne = 2.0,
        normalize: Normalization | None = None,
        reduction: Reduction = "mean",
    ):
        super().__init__(
            num_samples=num_samples,
            temperature=temperature,
            margin=margin,
            alpha=alpha,
            normalize=normalize,
            reduction=reduction,
        )
        self.register_buffer("sample_temperature", torch.empty(num_samples))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        self.sample_temperature.fill_(self.temperature)

    def forward(self, logits: Tensor, target: Tensor, index: Tensor) -> Tensor:
        parameters: dict[str, Any] = self.hyperparameters()
        del parameters["num_samples"]
        loss, new = aldr_kl(logits, target, index, self.sample_temperature, **parameters)
        if self.training:
            self.sample_temperature[index.long()] = new.to(self.sample_temperature.dtype)
        return loss

    def link(self, output: Tensor) -> Tensor:
        return (normalized(output, self.normalize) / self.temperature).softmax(1)
