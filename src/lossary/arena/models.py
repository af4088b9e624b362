"""The models that a comparison trains, and how a model and an objective become one thing to train."""

from typing import Literal

import torch
from torch import Tensor, nn

from lossary._objective import Objective

ModelName = Literal["linear", "mlp"]
MODELS: tuple[ModelName, ...] = ("linear", "mlp")


def make_model(name: ModelName, width: int, outputs: int, hidden: int) -> nn.Module:
    if name == "linear":
        return nn.Linear(width, outputs)
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


class Trainee(nn.Module):
    """A model with its objective: the loss when given a target, the linked prediction when not.

    Parameters of the objective (a learned link, class centres) are trained with the model, without weight decay.
    """

    def __init__(self, model: nn.Module, objective: Objective, family: str):
        super().__init__()
        self.model, self.objective, self.family = model, objective, family

    def forward(self, features: Tensor, target: Tensor | None = None) -> Tensor:
        output: Tensor = self.model(features)
        if self.family != "classification":
            output = output.squeeze(1)
        if target is None:
            return self.objective.link(output)
        loss: Tensor = self.objective(output, target.to(output.dtype) if self.family == "multilabel" else target)
        return loss


def make_trainee(name: ModelName, width: int, outputs: int, hidden: int, seed: int, objective: Objective, family: str) -> Trainee:
    """The model's first weights depend on the seed and nothing else, so that objectives start alike."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make_model(name, width, outputs, hidden)
    return Trainee(model, objective, family)
