"""A longer memory for the teacher's gradient, against SGD."""

import functools

import torch
from torch import Tensor

from lossary.arena.plan.recipe import batch_order
from lossary.claims import TEST_SHARE, Claim, Computation, higher, lower, mlp
from lossary.claims.papers._teacher import lesson
from lossary.functional import knowledge_distillation
from lossary.optim import DistillationOrientedTrainer

SEEDS, EPOCHS, RATE, MOMENTUM, DELTA = 10, 30, 0.005, 0.9, 0.075
TASK, DISTILL = 0.1, 0.9  # the weights of both losses, as in the paper's experiments on CIFAR


@functools.lru_cache(maxsize=64)
def student(seed: int, how: str) -> dict[str, float]:
    """A student of 6 hidden units, trained by one of three optimizers; its losses and accuracy at the end."""
    given = lesson(seed, SEEDS, 128, 20)
    net = mlp(seed, 64, 6, 10)
    optimizer: torch.optim.Optimizer = torch.optim.SGD(net.parameters(), lr=RATE, momentum=MOMENTUM)
    if how == "dot":
        optimizer = DistillationOrientedTrainer(net.parameters(), lr=RATE, momentum=MOMENTUM, delta=DELTA)
    weights = {"task": TASK, "distill": DISTILL}
    if how == "reweighted":  # what a steady gradient counts in the long run, in the place of two momenta
        weights["task"] *= (1 - MOMENTUM) / (1 - MOMENTUM + DELTA)
        weights["distill"] *= (1 - MOMENTUM) / (1 - MOMENTUM - DELTA)

    def losses(rows: Tensor) -> tuple[Tensor, Tensor]:
        out = net(given.images[rows])
        labels = torch.nn.functional.cross_entropy(out, given.target[rows])
        return labels, knowledge_distillation(out, given.logits[rows], temperature=4.0, alpha=1.0)

    for epoch in range(EPOCHS):
        for batch in batch_order(seed, epoch, len(given.target), 50):
            labels, teacher = losses(batch)
            if isinstance(optimizer, DistillationOrientedTrainer):
                optimizer.step(weights["task"] * labels, weights["distill"] * teacher)
            else:
                optimizer.zero_grad()
                (weights["task"] * labels + weights["distill"] * teacher).backward()
                optimizer.step()
    with torch.no_grad():
        labels, teacher = losses(torch.arange(len(given.target)))
        right = (net(given.tested).argmax(1) == given.truth).double().mean()
    return {"label_loss": float(labels), "teacher_loss": float(teacher), "accuracy": float(right)}


def trained(seed: int) -> dict[str, dict[str, float]]:
    return {how: student(seed, how) for how in ("dot", "sgd")}


DESCRIPTION = (
    "A teacher of 128 hidden units, students of 6; knowledge distillation at temperature 4 with weights 0.1 and 0.9, step size"
    " 0.005, momentum 0.9, delta 0.075, 30 epochs in batches of 50. Both losses, without their weights, are those of the training"
    " part at the end."
)

CLAIM = Claim(
    paper="dot",
    statement="With a longer memory for the teacher's gradient and a shorter one for that of the labels, both losses end lower than"
    " by SGD, and the student is more accurate.",
    experiments=(
        Computation(
            title="digits, a student of 6 units",
            function=trained,
            rules=(
                lower("teacher_loss", "dot", than="sgd"),
                lower("label_loss", "dot", than="sgd"),
                higher("accuracy", "dot", than="sgd"),
            ),
            seeds=SEEDS,
            description=DESCRIPTION,
            shared=TEST_SHARE,
            resolution=1 / 360,
        ),
    ),
    seconds=25,
    note="How much of it is another weighting of the two losses is asked in dot_reweighted.",
)
