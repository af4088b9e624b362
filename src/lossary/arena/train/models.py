"""A network and an objective as one thing to train."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lossary._core.objective import Objective
from lossary.arena.plan.networks import Shape, make_model, without_head
from lossary.arena.tasks import Kind


class Trainee(nn.Module, ABC):
    """A model with its objective: the loss when given a target, the prediction when not.

    Parameters of the objective (a learned link, class centres) are trained with the model, without weight decay.
    """

    def __init__(self, model: nn.Module, objective: Objective, family: str, outputs: int):
        super().__init__()
        self.model, self.objective, self.family, self.outputs = model, objective, family, outputs

    @abstractmethod
    def forward(self, features: Tensor, target: Tensor | None = None, index: Tensor | None = None, progress: float = 0.0) -> Tensor:
        """``index``, the rows' places, and ``progress``, how much of the training is done, are for objectives that ask for them."""

    def loss(self, index: Tensor | None, progress: float, *given: Tensor) -> Tensor:
        """The objective's value of what it is given, with what it asks for by keyword."""
        sides = {name: value for name, value in (("index", index), ("progress", progress)) if name in self.objective.requires}
        loss: Tensor = self.objective(*given, **sides)
        return loss


class Predictor(Trainee):
    """Classes, labels or values of single samples: the prediction is what the objective's link makes of the output."""

    def forward(self, features: Tensor, target: Tensor | None = None, index: Tensor | None = None, progress: float = 0.0) -> Tensor:
        output: Tensor = self.model(features)
        if self.outputs == 1 and self.family != "classification" and self.objective.consumes == "logits":
            output = output.squeeze(1)
        if target is None:
            return self.objective.link(output)
        wanted = target.to(output.dtype) if self.family == "multilabel" else target
        return self.loss(index, progress, output, wanted)


class Embedder(Trainee):
    """Retrieval: the output is an embedding, and so is the prediction, at length 1, whatever the objective makes of it."""

    def forward(self, features: Tensor, target: Tensor | None = None, index: Tensor | None = None, progress: float = 0.0) -> Tensor:
        output: Tensor = self.model(features)
        if target is None:
            return nn.functional.normalize(output, dim=1)
        return self.loss(index, progress, output, target)


class Ranker(Trainee):
    """Ranking: features (lists, items, columns) become scores (lists, items); a relevance below 0 is padding."""

    def forward(self, features: Tensor, target: Tensor | None = None, index: Tensor | None = None, progress: float = 0.0) -> Tensor:
        scores: Tensor = self.model(features.flatten(0, 1)).reshape(features.shape[:2])
        if target is None:
            return self.objective.link(scores)
        mask = target >= 0
        if self.family == "ranking":
            return self.loss(index, progress, scores, target.clamp_min(0), mask)
        # Item by item, padding is predicted exactly and so costs nothing, and the mean is that of the real items.
        filled = torch.where(mask, scores, target.to(scores.dtype))
        return self.loss(index, progress, filled, target.to(scores.dtype)) / mask.to(scores.dtype).mean()


_TRAINEES: dict[str, type[Trainee]] = {"retrieval": Embedder, "ranking": Ranker}


def make_trainee(
    name: str,
    shape: Shape,
    outputs: int,
    hidden: int,
    seed: int,
    objective: Objective | Callable[[int], Objective],
    family: str,
    on_embedding: bool = False,
    kind: Kind = "multiclass",
) -> Trainee:
    """The model's first weights depend on the seed and nothing else, so that objectives start alike.

    Args:
        objective: built already, or a function of the width of the embedding that builds it, whose draws depend on the seed, too.
        on_embedding: the objective takes the place of the model's last linear layer.
        kind: of the task; the embedding of a retrieval is the model's output.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, width = make_model(name, shape, outputs, hidden), outputs
        if on_embedding and kind != "retrieval":
            model, width = without_head(model, outputs, name)
        if not isinstance(objective, Objective):
            torch.manual_seed(seed)
            objective = objective(width)
    return _TRAINEES.get(kind, Predictor)(model, objective, family, outputs)
