"""How fast and how small softmax losses on the sphere are: beside pytorch-metric-learning's, and matrix products.

    python benchmarks/classifiers.py [--rows 512] [--classes 100000] [--width 128]

From embeddings and class weights to the gradients of both, normalisation included, on one thread. The limit is three matrix
products: scores, and a product of their derivative with either side. In each round everything has its turn, and what is shown is
the median over the rounds of the ratios. Memory is the most that the tensors of one forward and backward hold at once beside
embeddings and weights; their gradients are part of it.
"""

import importlib
import json as json_of
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

import lossary
from losses import peak_bytes, timed
from page import save as save_section
from peers import version_of

COMMAND = "python benchmarks/classifiers.py"
PACKAGE = "pytorch-metric-learning"
PEERS = {
    "arcface": ("ArcFaceLoss", {"margin": math.degrees(0.5), "scale": 64}),
    "cosface": ("CosFaceLoss", {"margin": 0.35, "scale": 64}),
    "normalized_softmax": ("NormalizedSoftmaxLoss", {"temperature": 1 / 20}),
    "proxy_anchor": ("ProxyAnchorLoss", {"margin": 0.1, "alpha": 32}),
}
ALONE = ("sface", "unpg")
WIDTH = 118

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass
class Entry:
    """One loss by one author, and what it took."""

    loss: str
    by: str
    call: Loss
    weight: Tensor
    seconds: list[float] = field(default_factory=list)
    memory: int = 0
    value: float = 0.0


def entries(classes: int, width: int) -> tuple[list[Entry], str | None]:
    """Ours, and theirs with the same weights; or why theirs are missing."""
    found = []
    for name in (*PEERS, *ALONE):
        torch.manual_seed(0)
        made = lossary.create(name, num_classes=classes, embedding_dim=width)
        found.append(Entry(name, "lossary", made, made.get_parameter("weight")))
    try:
        losses = importlib.import_module("pytorch_metric_learning.losses")
    except ImportError as error:
        return found, f"{error} (pip install --no-deps {PACKAGE})"
    for ours in found[: len(PEERS)]:
        name, options = PEERS[ours.loss]
        theirs = getattr(losses, name)(num_classes=classes, embedding_size=width, **options)
        weight = theirs.proxies if ours.loss == "proxy_anchor" else theirs.W
        with torch.no_grad():
            weight.copy_(ours.weight if weight.shape == ours.weight.shape else ours.weight.T)
        found.append(Entry(ours.loss, PACKAGE, theirs, weight))
    return found, None


def step(entry: Entry, x: Tensor, target: Tensor) -> None:
    """Forward and backward."""
    entry.weight.grad = None
    value = entry.call(x.detach().requires_grad_(), target)
    value.backward()
    entry.value = float(value.detach())


def products(x: Tensor, w: Tensor) -> None:
    s = x @ w.T
    s @ w
    s.T @ x


def measure(rows: int, classes: int, width: int, rounds: int) -> tuple[list[Entry], str | None, list[float]]:
    """Everything in turn, round by round, with the seconds of the products in each."""
    found, missing = entries(classes, width)
    generator = torch.Generator().manual_seed(1)
    x, target = torch.randn(rows, width, generator=generator), torch.randint(classes, (rows,), generator=generator)
    for entry in found:  # compiled loops, and what a first call allocates
        step(entry, x, target)
    limits = []
    for _ in range(rounds):
        limits.append(timed(lambda: products(x, found[0].weight.detach())))
        for entry in found:
            entry.seconds.append(timed(lambda entry=entry: step(entry, x, target)))  # type: ignore[misc]
            entry.weight.grad = None
    for entry in found:
        entry.memory = peak_bytes(lambda entry=entry: step(entry, x, target))  # type: ignore[misc]
        entry.weight.grad = None
    return found, missing, limits


def main(
    rows: Annotated[int, typer.Option(help="How many samples there are in a batch.")] = 512,
    classes: Annotated[int, typer.Option(help="How many classes there are.")] = 100_000,
    width: Annotated[int, typer.Option(help="How wide the embeddings are.")] = 128,
    rounds: Annotated[int, typer.Option(help="How often everything is measured.")] = 3,
    json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON.")] = False,
    save: Annotated[Path | None, typer.Option(help="Write the result into this Markdown page as well.")] = None,
) -> None:
    """Measure classifiers on the sphere in time and memory."""
    torch.set_num_threads(1)
    found, missing, limits = measure(rows, classes, width, rounds)
    console = Console(record=save is not None, width=WIDTH if save else None, quiet=json)
    console.print(f"{', '.join(map(version_of, ['torch', *([] if missing else [PACKAGE])]))}; threads: 1; {rounds} rounds.")
    if missing:
        console.print(f"Not measured: {PACKAGE}: {missing}.")
    title = f"{rows:,} embeddings x {width}, {classes:,} classes, float32, forward and backward"
    table = Table(title=title, title_justify="left")
    for column in ("loss", "by", "seconds", "x products", "ours / it", "x scores", "ours / it", "value off"):
        table.add_column(column, justify="left" if column in ("loss", "by") else "right")
    answer: list[dict[str, Any]] = []
    ours = {entry.loss: entry for entry in found if entry.by == "lossary"}
    for entry in sorted(found, key=lambda entry: list(ours).index(entry.loss)):
        mine = ours[entry.loss]
        row = {
            "loss": entry.loss,
            "by": entry.by,
            "seconds": statistics.median(entry.seconds),
            "of_products": statistics.median(map(float.__truediv__, entry.seconds, limits)),
            "time_ratio": statistics.median(map(float.__truediv__, mine.seconds, entry.seconds)),
            "of_scores": entry.memory / (rows * classes * 4),
            "memory_ratio": mine.memory / max(entry.memory, 1),
            "value_gap": abs(entry.value - mine.value) / max(abs(mine.value), 1e-12),
        }
        answer.append(row)
        peer = entry is not mine
        table.add_row(
            entry.loss,
            entry.by,
            f"{row['seconds']:.2f}",
            f"{row['of_products']:.2f}",
            f"{row['time_ratio']:.2f}" if peer else "",
            f"{row['of_scores']:.2f}",
            f"{row['memory_ratio']:.3f}" if peer else "",
            f"{row['value_gap']:.0e}" if peer else "",
        )
    console.print(table)
    console.print(f"Three products: {statistics.median(limits):.2f} s. Memory is in units of the scores, embeddings by classes.")
    if json:
        facts = {"rows": rows, "classes": classes, "width": width, "products": statistics.median(limits), "missing": missing}
        typer.echo(json_of.dumps({**facts, "results": answer}, indent=2))
    if save is not None:
        save_section(save, "classifiers on the sphere", COMMAND, console.export_text())


if __name__ == "__main__":
    typer.run(main)
