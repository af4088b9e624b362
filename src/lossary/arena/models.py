"""The models that a comparison trains, and how a model and an objective become one thing to train."""

import importlib
import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from lossary._objective import Objective
from lossary._registry import suggestion
from lossary.arena.tasks import Kind
from lossary.errors import InvalidTypeError, UnknownNameError

Shape = tuple[int, ...]
Factory = Callable[[Shape, int], nn.Module]


def linear(shape: Shape, outputs: int, hidden: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), outputs))


def mlp(shape: Shape, outputs: int, hidden: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def cnn(shape: Shape, outputs: int, hidden: int) -> nn.Module:
    """Two convolutions and two poolings; ``hidden`` is the number of channels of the second."""
    first = max(hidden // 2, 1)
    return nn.Sequential(
        nn.Conv2d(shape[0], first, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(first, hidden, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * hidden, outputs),
    )


MODELS: dict[str, Callable[[Shape, int, int], nn.Module]] = {"linear": linear, "mlp": mlp, "cnn": cnn}


def check_model(name: str, images: bool) -> None:
    """Refuse a model that is not there or does not fit the data."""
    if ":" in name:
        load_factory(name)
    elif name not in MODELS:
        known = f"{', '.join(MODELS)}, or your own as module:factory"
        raise UnknownNameError(f"there is no model {name!r}{suggestion(name, MODELS)} (there are {known})")
    elif name == "cnn" and not images:
        raise InvalidTypeError("the model cnn needs images, and these data are a table; take linear or mlp")


def load_factory(name: str) -> Factory:
    """``module:factory``, a function of the shape of one sample and the number of outputs that returns a module."""
    module_name, _, attribute = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise UnknownNameError(f"the model {name!r} cannot be imported: {error}") from error
    if not callable(factory):
        raise InvalidTypeError(f"the model {name!r} must be a function of (shape, outputs), got {type(factory).__name__}")
    found: Factory = factory
    return found


def make_model(name: str, shape: Shape, outputs: int, hidden: int) -> nn.Module:
    if ":" in name:
        model = load_factory(name)(shape, outputs)
        if not isinstance(model, nn.Module):
            raise InvalidTypeError(f"the model {name!r} must return a torch.nn.Module, got {type(model).__name__}")
        return model
    return MODELS[name](shape, outputs, hidden)


def without_head(model: nn.Module, outputs: int, name: str) -> tuple[nn.Module, int]:
    """The model up to its last linear layer, and how wide the embedding is that comes there."""
    path, head = list(model.named_modules())[-1]
    if not isinstance(head, nn.Linear) or head.out_features != outputs:
        raise InvalidTypeError(
            f"the model {name!r} must end in a torch.nn.Linear of {outputs} outputs, which an objective on embeddings replaces,"
            f" got {type(head).__name__}"
        )
    if not path:
        return nn.Flatten(), head.in_features
    model.set_submodule(path, nn.Identity())
    return model, head.in_features


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
