"""Learning from the means of bags: bag level, instance level and their mixture at three strengths of the signal."""

import numpy as np
import torch
from torch import Tensor

from lossary import Objective, create
from lossary.claims import Claim, Computation, higher, lower
from lossary.data import aggregate

FEATURES, ROWS, SIZE, FOLDS = 50, 400, 4, 5
SHARES = (0.0, 0.1, 0.2, 0.4, 0.7, 1.0)


def fitted(objective: Objective, x: Tensor, target: Tensor, bag: Tensor) -> Tensor:
    """The coefficients of the linear model that minimizes the objective."""
    found = torch.zeros(FEATURES, dtype=x.dtype, requires_grad=True)
    solver = torch.optim.LBFGS([found], max_iter=300, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        value: Tensor = objective(x @ found, target, bag)
        value.backward()
        return value

    solver.step(loss)
    return found.detach()


def errors(signal: float) -> dict[str, dict[str, float]]:
    x, direction = torch.randn(ROWS, FEATURES, dtype=torch.float64), torch.randn(FEATURES, dtype=torch.float64)
    true = signal * direction / direction.norm()
    bag = torch.arange(ROWS) // SIZE
    target = aggregate(x @ true + torch.randn(ROWS, dtype=torch.float64), bag)

    def unseen(share: float) -> float:
        """The squared error of the means of bags that were left out."""
        costs = []
        for fold in range(FOLDS):
            seen = bag % FOLDS != fold
            found = fitted(create("interpolated_bag", rho=share), x[seen], target, bag[seen])
            costs.append(create("bag_level")(x[~seen] @ found, target, bag[~seen]).item())
        return float(np.mean(costs))

    arms = {"bag_level": 0.0, "instance_level": 1.0, "interpolated": min(SHARES, key=unseen)}
    found = {arm: fitted(create("interpolated_bag", rho=share), x, target, bag) for arm, share in arms.items()}
    return {arm: {"squared_error": (each - true).square().sum().item()} for arm, each in found.items()}


def weak(seed: int) -> dict[str, dict[str, float]]:
    return errors(0.3)


def middle(seed: int) -> dict[str, dict[str, float]]:
    return errors(1.0)


def strong(seed: int) -> dict[str, dict[str, float]]:
    return errors(3.0)


TEXT = (
    "100 bags of 4 rows with 50 normal features, of which only the mean response is known, noise of deviation 1 included; the"
    " coefficients of the linear model have length {}; the share of the instance level is chosen by bags that were left out."
)
BETTER = tuple(lower("squared_error", "interpolated", than=arm) for arm in ("bag_level", "instance_level"))
CLAIM = Claim(
    paper="interpolated_bag",
    statement="Fitting every sample to the mean of its bag is better than fitting the means where the signal is weak, and worse"
    " where it is strong; in between a mixture of the two is better than both.",
    experiments=(
        Computation("weak signal", weak, (lower("squared_error", "instance_level", than="bag_level"),), 20, TEXT.format("0.3")),
        Computation("signal in between", middle, BETTER, 20, TEXT.format("1")),
        Computation("strong signal", strong, (higher("squared_error", "instance_level", than="bag_level"),), 20, TEXT.format("3")),
    ),
    seconds=90,
)
