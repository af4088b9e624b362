"""AMCL: several projection heads, and a temperature of its own for each pair."""

from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from lossary._core.checks import check_floating, check_shape, shape_text
from lossary._core.objective import Objective, widen, without_autocast
from lossary._core.parameters import NonNegative, OneOf, Positive, PositiveCount, SetReduction, formula
from lossary._core.registry import objective
from lossary._fast.pairs.rule import against_all, unit
from lossary.distributed import Group, Ring, all_items
from lossary.errors import InvalidValueError
from lossary.losses.contrastive._common import direction
from lossary.losses.contrastive._nearest import nearest, similarities_at

Phi = Annotated[Literal["mlp", "identity"], OneOf(("mlp", "identity"))]


@formula
def amcl(
    a: Tensor,
    b: Tensor,
    first_weight: Tensor | None,
    first_bias: Tensor | None,
    second_weight: Tensor | None,
    second_bias: Tensor | None,
    *,
    beta: NonNegative = 0.01,
    min_temperature: Positive = 1e-5,
    max_temperature: Positive = 2.0,
    top_k: PositiveCount = 1,
    group: Group = None,
    reduction: SetReduction = "mean",
) -> Tensor:
    """The pure function behind :class:`AMCLLoss`: the weights are those of the two layers of phi, which is the identity if the
    first one is None."""
    _check(a, b, first_weight)
    views = unit(widen(torch.cat([a, b])))
    views = views.unsqueeze(1) if a.ndim == 2 else views
    n, width = a.shape[0], a.shape[-1]
    ring = Ring("amcl", a, group)
    sample = torch.arange(n, device=a.device).repeat(2) + ring.start

    def phi(x: Tensor) -> Tensor:
        if first_weight is None or second_weight is None:
            return x
        weights = [None if w is None else w.to(x.dtype) for w in (first_weight, first_bias, second_weight, second_bias)]
        with without_autocast(x):
            hidden = linear(x, weights[0], weights[1]).relu()  # type: ignore[arg-type]
            return linear(hidden, weights[2], weights[3])  # type: ignore[arg-type]

    def terms(s: Tensor, product: Tensor) -> tuple[Tensor, Tensor]:
        tau = min_temperature + (max_temperature - min_temperature) * torch.sigmoid(-product)
        return s / tau, width / 2 * tau.log() + 1 / tau

    per_anchor = views.new_zeros(2 * n)
    for x in views.unbind(1):
        embedded = phi(x)
        pull, looseness = terms((x * x.roll(n, 0)).sum(1), (embedded * embedded.roll(n, 0)).sum(1))
        per_anchor = per_anchor - pull + beta * looseness
        given = against_all("amcl", x, x, sample, group)
        index = nearest(min(top_k, max(2 * ring.total - 2, 0)), **given)
        if index.shape[1]:
            items, of_items = given["items"], all_items("amcl", embedded, group).items
            push, tightness = terms(similarities_at(x, items, index), similarities_at(embedded, of_items, index))
            per_anchor = per_anchor + push.mean(1) - beta * tightness.mean(1)
    return ring.reduced(per_anchor.sum() / 2, reduction)


def _check(a: Tensor, b: Tensor, first_weight: Tensor | None) -> None:
    check_floating("amcl", "a", a)
    check_floating("amcl", "b", b)
    if a.ndim not in (2, 3):
        raise InvalidValueError(f"amcl: a must have shape (N, heads, D) or (N, D), got {shape_text(tuple(a.shape))}")
    check_shape("amcl", "b", b, tuple(a.shape))
    if first_weight is not None and a.shape[-1] != first_weight.shape[1]:
        shape = f"(N, heads, {first_weight.shape[1]}) or (N, {first_weight.shape[1]})"
        raise InvalidValueError(f"amcl: a must have shape {shape}, got {shape_text(tuple(a.shape))}")


@objective(
    family="contrastive",
    function=amcl,
    soft_targets=False,
    decomposable=False,
    spatial=False,
    value_is_objective=False,
    link="scores",
    distributed="inexact",
    tune={"beta": (0.001, 0.1)},
)
class AMCLLoss(Objective):
    r"""AMCL: several projection heads, and a temperature of its own for each pair.

    .. math::
        L_i = \sum_c -\frac{s_i^+}{\tau_i^+} + \frac{s_i^*}{\tau_i^*} + \beta \, \Omega(\tau_i^+) - \beta \, \Omega(\tau_i^*),
        \qquad \Omega(\tau) = \frac{D}{2} \log \tau + \frac{1}{\tau}, \qquad
        \tau(u, v) = \tau_0 + (\tau_1 - \tau_0) \, \sigma(-\langle \varphi(u), \varphi(v) \rangle)

    For head c, s+ is the cosine of a sample's two views and s* the largest with any view of another sample. Similar pairs get a low
    temperature. It is summed over heads, and averaged over samples and both views. phi is a small network that the heads share and
    that is trained along: give its ``parameters()`` to the optimizer. :class:`lossary.nn.MultiHeadProjector` has the heads.

    The value is a surrogate: it may be negative, and is not to be compared between steps. Only ``min_temperature`` bounds it from
    below. Which samples are nearest is found in blocks; beside them there is room for N times ``top_k`` numbers.

    Args:
        embedding_dim: the size D of a head's projection.
        num_heads: how many heads there are.
        beta: the weight of the regularisation of the temperatures; the authors' programs have 0.01 and 0.1.
        min_temperature, max_temperature: the range of the temperatures; the first is that of the most similar pairs.
        top_k: how many of the nearest negatives count, on average; the paper's equation has 1, the authors' program 100. More than
            there are is all of them.
        phi: ``"mlp"``, two layers of width D, or ``"identity"``, which has no weights.
        group: the processes whose samples are negatives too: None for this one alone, ``"world"``, or a process group. The mean
            over them of the loss and of its gradients is that of one process with the whole batch.
        reduction: ``"mean"`` over the samples, or ``"sum"``.
    Shape: a and b (N, num_heads, D), or (N, D) with one head, of any length.
    Units: none: similarities over temperatures.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Wang, Koniusz, Gedeon and Zheng, "Adaptive Multi-head Contrastive Learning", 2023: the form for SimCLR. Its equation and
        the authors' programs differ; the equation is taken.

    >>> loss = AMCLLoss(embedding_dim=2, num_heads=1, phi="identity")
    >>> loss(torch.eye(2), torch.tensor([[2.0, 0.0], [1.0, 1.0]]))
    tensor(-0.6610)
    """

    consumes = "embedding"
    num_heads: int
    embedding_dim: int
    first_weight: Tensor | None
    first_bias: Tensor | None
    second_weight: Tensor | None
    second_bias: Tensor | None

    def __init__(
        self,
        *,
        embedding_dim: PositiveCount,
        num_heads: PositiveCount = 3,
        beta: NonNegative = 0.01,
        min_temperature: Positive = 1e-5,
        max_temperature: Positive = 2.0,
        top_k: PositiveCount = 1,
        phi: Phi = "mlp",
        group: Group = None,
        reduction: SetReduction = "mean",
    ):
        super().__init__(
            embedding_dim=embedding_dim,
            num_heads=num_heads,
            beta=beta,
            min_temperature=min_temperature,
            max_temperature=max_temperature,
            top_k=top_k,
            phi=phi,
            group=group,
            reduction=reduction,
        )
        for name in ("first", "second"):
            for part, shape in (("weight", (embedding_dim, embedding_dim)), ("bias", (embedding_dim,))):
                self.register_parameter(f"{name}_{part}", nn.Parameter(torch.empty(shape)) if phi == "mlp" else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        bound = self.embedding_dim**-0.5  # as nn.Linear(embedding_dim, embedding_dim) begins
        for value in (self.first_weight, self.first_bias, self.second_weight, self.second_bias):
            if value is not None:
                nn.init.uniform_(value, -bound, bound)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        check_floating("amcl", "a", a)
        heads = (a.shape[0], self.num_heads, self.embedding_dim) if a.ndim else ()
        alone = (a.shape[0], self.embedding_dim) if a.ndim and self.num_heads == 1 else heads
        check_shape("amcl", "a", a, *dict.fromkeys((heads, alone)))
        parameters = self.hyperparameters()
        del parameters["embedding_dim"], parameters["num_heads"], parameters["phi"]
        weights = self.first_weight, self.first_bias, self.second_weight, self.second_bias
        return self.function(a, b, *weights, **parameters)

    def link(self, output: Tensor) -> Tensor:
        return direction(output)
