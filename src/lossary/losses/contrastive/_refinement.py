"""What both refinements of BYOL share: pairs that already look alike count as positives."""

from typing import Any

from torch import Tensor

from lossary._core.objective import Objective, reduce
from lossary._core.parameters import done
from lossary._fast.pairs.rule import Pairs, Row, against_all, sum_over_rows
from lossary.distributed import Group, all_items, total
from lossary.errors import InvalidTypeError
from lossary.losses.contrastive._common import direction

UNREACHED = {"positive_threshold": 2.0, "negative_threshold": -2.0}  # neither a cosine nor a sigmoid gets there


def mean_over_pairs(owner: str, row: Row, prediction: Tensor, target: Tensor, group: Group, *, squares: bool = False) -> Tensor:
    """The mean of the chosen pairs' costs over the batch, where the row function gives an anchor's sum of costs and its count.

    It takes cosines c, or 2 - 2 c, which as squared distances are exact for pairs that are nearly alike.
    """
    given = against_all(owner, prediction, target, group=group)
    if squares:
        # Rows of zeros have a cosine of 0, and lack 1 in the squared distance.
        of_anchors, of_targets = ((~x.any(1)).to(x.dtype) for x in (prediction, target))
        given |= {"anchor_sides": [of_anchors], "item_sides": [all_items(owner, of_targets, group).items], "squares": True}

    def row_of_sides(s: Tensor, pairs: Pairs) -> tuple[Tensor, ...]:
        return row(s + pairs.anchor_sides[0].unsqueeze(1) + pairs.item_sides[0], pairs)

    found = sum_over_rows(row_of_sides if squares else row, **given)
    value, count = (total(owner, x, group) for x in found)
    return reduce(value, count, "mean")


class SelfLabelled(Objective):
    """A refinement of BYOL: both thresholds are out of reach while ``progress`` is below ``warmup``."""

    consumes = "embedding"
    warmup: float
    reduction: str

    def __init__(self, **hyperparameters: object):
        super().__init__(**hyperparameters)
        if self.warmup > 0:
            self.requires = ("progress",)

    def forward(self, prediction: Tensor, target: Tensor, progress: float | None = None) -> Tensor:
        """Compute the loss of predictions (N, D) for targets (N, D), and of the fraction of training done with a warm-up."""
        parameters: dict[str, Any] = self.hyperparameters()
        del parameters["warmup"]
        if self.warmup > 0:
            if progress is None:
                raise InvalidTypeError(f"{self.name}: progress must be a number from 0 to 1 with warmup={self.warmup}, got None")
            if done(self.name, progress) < self.warmup:
                parameters |= UNREACHED
        return self.function(prediction, target, **parameters)

    def link(self, output: Tensor) -> Tensor:
        return direction(output)
