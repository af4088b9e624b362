"""Networks that a comparison trains: its own, and those of the user."""

import importlib
import math
import sys
from collections.abc import Callable
from pathlib import Path

from torch import nn

from lossary._core.names import suggestion
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
