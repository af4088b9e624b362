"""How fast and how small paired contrastive losses are: beside open_clip's, the matrix form, and matrix products.

    python benchmarks/contrastive.py [--pairs 8192] [--width 512]

From two embeddings of each sample to the gradients of both and of learned scalars, normalisation included, on one thread. The limit
is three matrix products: scores, and a product of their derivative with either side. In each round everything has its turn,
and what is shown is the median over the rounds of the ratios. Memory is the most that the tensors of one forward and backward hold
at once beside the embeddings; blocks that compiled loops work on are tensors too.

The matrix form is the loss as people write it in plain operations. What sentence-transformers takes for info_nce and clip,
``benchmarks/pairs.py`` measures.
"""

import json as json_of
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional

import lossary
from losses import peak_bytes, timed
from page import save as save_section
from peers import module_alone, version_of

COMMAND = "python benchmarks/contrastive.py"
TIME, MEMORY = 0.7, 0.1  # of open_clip's, at most
WIDTH = 110

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass
class Entry:
    """One loss by one author, and what it took."""

    loss: str
    by: str
    call: Loss
    parameters: list[Tensor]
    seconds: list[float]
    memory: int = 0
    value: float = 0.0


def scalars(*values: float) -> list[Tensor]:
    return [torch.tensor(value, requires_grad=True) for value in values]


def matrix_siglip(scale: Tensor, bias: Tensor) -> Loss:
    def loss(a: Tensor, b: Tensor) -> Tensor:
        z = scale * functional.normalize(a) @ functional.normalize(b).T + bias
        sign = 2 * torch.eye(len(a)) - 1
        return -functional.logsigmoid(sign * z).sum() / len(a)

    return loss


def matrix_clip(scale: Tensor) -> Loss:
    def loss(a: Tensor, b: Tensor) -> Tensor:
        z, own = scale * functional.normalize(a) @ functional.normalize(b).T, torch.arange(len(a))
        return (functional.cross_entropy(z, own) + functional.cross_entropy(z.T, own)) / 2

    return loss


def matrix_info_nce(a: Tensor, b: Tensor) -> Tensor:
    return functional.cross_entropy(functional.normalize(a) @ functional.normalize(b).T / 0.07, torch.arange(len(a)))


def matrix_hard(a: Tensor, b: Tensor) -> Tensor:
    z = functional.normalize(a) @ functional.normalize(b).T / 0.07
    own = torch.eye(len(a), dtype=torch.bool)
    near = z.masked_fill(own, -torch.inf).topk(max(1, -int(-0.0819 * (len(a) - 1) // 1)), dim=1).values
    return (torch.cat([z.diagonal()[:, None], near], 1).logsumexp(1) - z.diagonal()).mean()


def matrix_simple(a: Tensor, b: Tensor) -> Tensor:
    s = functional.normalize(a) @ functional.normalize(b).T
    return ((s.sum(1) - s.diagonal()) / (len(a) - 1) - s.diagonal()).mean()


def entries() -> tuple[list[Entry], dict[str, str]]:
    """Everything that is measured, and what is missing."""
    found = []
    for name in ("siglip", "clip", "info_nce", "hard_contrastive", "simple_contrastive"):
        made = lossary.create(name)
        found.append(Entry(name, "lossary", made, list(made.parameters()), []))
    missing: dict[str, str] = {}
    s = scalars(10.0, -10.0)
    c = scalars(1 / 0.07)
    try:
        module = module_alone("open_clip.loss")
        sigmoid, softmax = module.SigLipLoss(), module.ClipLoss()
        s2, c2 = scalars(10.0, -10.0), scalars(1 / 0.07)

        def by_open_clip(loss: Any, numbers: list[Tensor]) -> Loss:
            return lambda a, b: loss(functional.normalize(a), functional.normalize(b), *numbers)

        found.append(Entry("siglip", "open_clip", by_open_clip(sigmoid, s2), s2, []))
        found.append(Entry("clip", "open_clip", by_open_clip(softmax, c2), c2, []))
    except ImportError as error:
        missing["open_clip"] = f"{error} (pip install --no-deps open_clip_torch)"
    found += [
        Entry("siglip", "matrix form", matrix_siglip(*s), s, []),
        Entry("clip", "matrix form", matrix_clip(*c), c, []),
        Entry("info_nce", "matrix form", matrix_info_nce, [], []),
        Entry("hard_contrastive", "matrix form", matrix_hard, [], []),
        Entry("simple_contrastive", "matrix form", matrix_simple, [], []),
    ]
    return found, missing


def step(entry: Entry, a: Tensor, b: Tensor) -> None:
    """Forward and backward; gradients are held as an optimizer would find them."""
    x, y = a.detach().requires_grad_(), b.detach().requires_grad_()
    for parameter in entry.parameters:
        parameter.grad = None
    value = entry.call(x, y)
    value.backward()
    entry.value = float(value.detach())


def products(a: Tensor, b: Tensor) -> None:
    s = a @ b.T
    s @ b
    s.T @ a


def measure(pairs: int, width: int, rounds: int) -> tuple[list[Entry], dict[str, str], list[float]]:
    """Everything in turn, round by round, with the seconds of the products in each."""
    found, missing = entries()
    generator = torch.Generator().manual_seed(0)
    a, noise = (torch.randn(pairs, width, generator=generator) for _ in range(2))
    b = a + noise
    for entry in found:  # compiled loops, and what a first call allocates
        step(entry, a[: max(300, pairs // 16)], b[: max(300, pairs // 16)])
    limits = []
    for _ in range(rounds):
        limits.append(timed(lambda: products(a, b)))
        for entry in found:
            entry.seconds.append(timed(lambda entry=entry: step(entry, a, b)))  # type: ignore[misc]
    for entry in found:
        for parameter in entry.parameters:
            parameter.grad = None
        entry.memory = peak_bytes(lambda entry=entry: step(entry, a, b))  # type: ignore[misc]
    return found, missing, limits


def main(
    pairs: Annotated[int, typer.Option(help="How many pairs there are in a batch.")] = 8192,
    width: Annotated[int, typer.Option(help="How wide the embeddings are.")] = 512,
    rounds: Annotated[int, typer.Option(help="How often everything is measured.")] = 3,
    json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON.")] = False,
    save: Annotated[Path | None, typer.Option(help="Write the result into this Markdown page as well.")] = None,
) -> None:
    """Measure paired losses in time and memory."""
    torch.set_num_threads(1)
    found, missing, limits = measure(pairs, width, rounds)
    console = Console(record=save is not None, width=WIDTH if save else None, quiet=json)
    names = ["torch", *(["open_clip_torch"] if "open_clip" not in missing else [])]
    console.print(f"{', '.join(map(version_of, names))}; threads: 1; {rounds} rounds.")
    for label, reason in missing.items():
        console.print(f"Not measured: {label}: {reason}.")
    table = Table(title=f"{pairs:,} pairs x {width}, float32, forward and backward", title_justify="left")
    for column in ("loss", "by", "seconds", "x products", "ours / it", "memory MB", "ours / it", "value off"):
        table.add_column(column, justify="left" if column in ("loss", "by") else "right")
    answer: list[dict[str, Any]] = []
    ours = {entry.loss: entry for entry in found if entry.by == "lossary"}
    order = list(ours)
    for entry in sorted(found, key=lambda entry: order.index(entry.loss)):
        mine = ours[entry.loss]
        row = {
            "loss": entry.loss,
            "by": entry.by,
            "seconds": statistics.median(entry.seconds),
            "of_products": statistics.median(map(float.__truediv__, entry.seconds, limits)),
            "time_ratio": statistics.median(map(float.__truediv__, mine.seconds, entry.seconds)),
            "memory": entry.memory,
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
            f"{entry.memory / 1e6:.0f}",
            f"{row['memory_ratio']:.3f}" if peer else "",
            f"{row['value_gap']:.0e}" if peer else "",
        )
    console.print(table)
    console.print(f"Three products: {statistics.median(limits):.2f} s.")
    console.print(f"Target beside open_clip: {TIME} of the time, {MEMORY} of the memory, at most.")
    missed = [
        f"{row['loss']} ({row['time_ratio']:.2f}, {row['memory_ratio']:.3f})"
        for row in answer
        if row["by"] == "open_clip" and (row["time_ratio"] > TIME or row["memory_ratio"] > MEMORY)
    ]
    if "open_clip" not in missing:
        console.print(f"Missed by {', '.join(missed)}." if missed else "Both are met.")
    if json:
        facts = {"pairs": pairs, "width": width, "products": statistics.median(limits), "missing": missing}
        typer.echo(json_of.dumps({**facts, "results": answer}, indent=2))
    if save is not None:
        save_section(save, "paired contrastive losses", COMMAND, console.export_text())


if __name__ == "__main__":
    typer.run(main)
