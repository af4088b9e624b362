"""LegendreTron: cross-entropy with a learned link that is proper by construction."""

import functools
from collections.abc import Callable, Iterable
from typing import Annotated, Literal, cast

import torch
from torch import Tensor, nn

from lossary._core.checks import check_class_inputs, shape_text
from lossary._core.objective import Objective, average_over_classes, is_ignored, widen, without_autocast
from lossary._core.parameters import Count, Interval, OneOf, PositiveCount, Reduction, Vector, formula
from lossary._core.registry import SpecialCase, objective
from lossary.errors import InvalidValueError
from lossary.losses.classification._common import without_ignored
from lossary.losses.classification._convex import ConvexGradient

AtLeastTwo = Annotated[int, Interval(low=2, whole=True)]
Init = Annotated[Literal["random", "identity"], OneOf(("random", "identity"))]


@formula
def legendretron(
    logits: Tensor,
    target: Tensor,
    blocks: Iterable[Callable[[Tensor], Tensor]],
    *,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> Tensor:
    """The pure function behind :class:`LegendreTronLoss`, with the maps (N, C - 1) to (N, C - 1) that its link is made of."""
    check_class_inputs("legendretron", logits, target, weight, min_classes=2)
    if logits.ndim != 2:
        raise InvalidValueError(f"legendretron: logits must have shape (N, C), got {shape_text(tuple(logits.shape))}")
    if_class = -log_link(without_ignored(logits, target, ignore_index), blocks)
    return average_over_classes(
        if_class, target, weight=weight, ignore_index=ignore_index, label_smoothing=0.0, reduction=reduction
    )


def log_link(logits: Tensor, blocks: Iterable[Callable[[Tensor], Tensor]]) -> Tensor:
    """log p (N, C): the softmax after the maps, in which the last class stays at 0."""
    wide = widen(logits)
    x = wide[:, :-1] - wide[:, -1:]
    with without_autocast(wide):  # the maps are made of matrix products
        for block in blocks:
            x = block(x)
    return torch.cat([x, torch.zeros_like(x[:, :1])], 1).log_softmax(1)


@objective(
    family="classification",
    function=legendretron,
    proper=True,
    spatial=False,
    special_cases=[SpecialCase({"num_blocks": 0}, "cross_entropy")],
)
class LegendreTronLoss(Objective):
    r"""LegendreTron: cross-entropy with a learned link that is proper by construction.

    .. math::
        \ell(z, y) = -\log \mathrm{softmax}([f_B(\dots f_1(x)), 0])_y, \qquad x_j = z_j - z_C, \qquad
        f_b = \mathrm{grad} \left[ \mathrm{softplus}(w_1) \mathrm{ICNN}_b(x) + \mathrm{softplus}(w_0) \lVert x \rVert^2 / 2 \right]

    The gradient of a strongly convex function is invertible and monotone; the link is made of such maps, and the loss is the
    logarithmic score of what it returns. It has parameters, which have to be given to the optimizer together with the model's. The
    authors' models have C - 1 outputs; here the last logit is subtracted. As with them, the first batch in training sets the scales
    inside of the maps; that they are set is part of ``state_dict``. Ignored samples have no part in it. A batch whose logits
    hardly differ (a deviation below 0.1, as from a head that starts at zero) leaves it to a later one. (In the authors' program
    a reloaded model sets them again, and the softmax overflows where all logits are far below 0.) Of several processes each
    would set scales of its own: call the loss once in all of them before DistributedDataParallel makes them equal. It wants a
    long schedule: Adam at 0.01 over 240 epochs, a decay of 0.95 every 4 epochs, batches of 64, and weight decay on the link as
    well. Each map mixes all logits, so that no class can be masked by -inf.

    Each map is a network of its own, gone through forwards and backwards for its value and once more for its gradient. That takes
    some 40 times as long as cross-entropy for ten classes, and the room of 26 times the logits.

    Args:
        num_classes: how many classes there are, at least 2.
        num_blocks: how many maps the link is made of; none is cross-entropy.
        hidden_dim: the width of the convex networks; the authors' script has 2, their class 4.
        depth: their number of hidden layers.
        init: ``"random"``, as the authors do, or ``"identity"``, which starts within about 1 % of cross-entropy.
        weight, ignore_index, reduction: as in :class:`torch.nn.CrossEntropyLoss`.
    Shape: logits (N, C); target (N,) class indices, or (N, C) probabilities.
    Units: nats.
    Errors: a shape or dtype other than these, or a parameter outside its range, is a ``LossaryError``.
    Source: Lam, Walder, Penev and Nock, "LegendreTron: Uprising Proper Multiclass Loss Learning", 2023.

    >>> loss = LegendreTronLoss(num_classes=3, init="identity")
    >>> bool((loss(torch.tensor([[2.0, 0.0, -2.0]]), torch.tensor([0])) - 0.1429).abs() < 0.01)
    True
    """

    ignore_index: int

    def __init__(
        self,
        *,
        num_classes: AtLeastTwo,
        num_blocks: Count = 2,
        hidden_dim: AtLeastTwo = 4,
        depth: PositiveCount = 4,
        init: Init = "random",
        weight: Vector | None = None,
        ignore_index: int = -100,
        reduction: Reduction = "mean",
    ):
        super().__init__(
            num_classes=num_classes,
            num_blocks=num_blocks,
            hidden_dim=hidden_dim,
            depth=depth,
            init=init,
            weight=weight,
            ignore_index=ignore_index,
            reduction=reduction,
        )
        maps = (ConvexGradient(num_classes - 1, hidden_dim, depth, init == "identity") for _ in range(num_blocks))
        self.blocks = nn.ModuleList(maps)

    def reset_parameters(self) -> None:
        for block in self.blocks:
            cast("ConvexGradient", block).reset_parameters()

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        self._check_classes(logits)
        given = self.hyperparameters()
        shared = {name: given[name] for name in ("weight", "ignore_index", "reduction")}
        return self.function(logits, target, self._blocks(target), **shared)

    def _blocks(self, target: Tensor) -> Iterable[Callable[[Tensor], Tensor]]:
        """The maps; those that are still to be started learn which samples count."""
        started = all(cast("ConvexGradient", block).is_ready for block in self.blocks)
        if started or not self.training or not isinstance(target, Tensor) or target.is_floating_point():
            return self.blocks
        kept = ~is_ignored(target, self.ignore_index)
        return [functools.partial(block, kept=kept) for block in self.blocks]

    def link(self, output: Tensor) -> Tensor:
        self._check_classes(output)
        return log_link(output, self.blocks).exp().to(output.dtype)

    def _check_classes(self, logits: Tensor) -> None:
        classes = self.hyperparameters()["num_classes"]
        if isinstance(logits, Tensor) and (logits.ndim != 2 or logits.shape[1] != classes):
            raise InvalidValueError(f"{self.name}: logits must have shape (N, {classes}), got {shape_text(tuple(logits.shape))}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"
