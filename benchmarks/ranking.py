"""How fast and how small losses of ranked lists are, beside allRank's.

    python benchmarks/ranking.py [--allrank PATH]

From scores to their gradient, on one thread. In each round everything has its turn, and what is shown is the median over the rounds
of the ratios; what takes more than a few seconds has one round. Memory is the most that the tensors of one forward and backward
hold at once beside scores and relevance; the room that compiled loops work in is a tensor too.

allRank (https://github.com/allegro/allRank) is imported if it is installed, or from a copy of its repository: ``--allrank`` or the
environment variable ALLRANK says where that is. Parameters are those that make both the same loss; RankNet is the mean over the
pairs of the batch there and of the list here, which on lists of one length differ in the last digits.
"""

import importlib
import importlib.util
import json as json_of
import os
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # read when torch is imported: the profiler would write lines to stderr

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

import lossary
from losses import peak_bytes, timed
from page import save as save_section

COMMAND = "python benchmarks/ranking.py"
MOST = 0.1  # of allRank's time and memory, at most
SLOW = 4.0  # seconds, from which on one round has to do
WIDTH = 110

Loss = Callable[[Tensor, Tensor], Tensor]
OURS: dict[str, dict[str, Any]] = {
    "neural_ndcg": {},
    "neural_ndcg_transposed": {},
    "approx_ndcg": {"alpha": 1.0},
    "lambda_loss": {"reduction": "sum"},
    "rank_net": {},
}
# the module, its function, and the parameters that make it ours
THEIRS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "neural_ndcg": ("neuralNDCG", "neuralNDCG", {}),
    "neural_ndcg_transposed": ("neuralNDCG", "neuralNDCG_transposed", {}),
    "approx_ndcg": ("approxNDCG", "approxNDCGLoss", {}),
    "lambda_loss": ("lambdaLoss", "lambdaLoss", {"weighing_scheme": "ndcgLoss2PP_scheme"}),
    "rank_net": ("rankNet", "rankNet", {}),
}


@dataclass
class Entry:
    """One loss by one author, and what it took."""

    loss: str
    by: str
    call: Loss
    seconds: list[float] = field(default_factory=list)
    memory: int = 0
    value: float = 0.0


def allrank_losses() -> dict[str, Loss]:
    """allRank's losses alone: the packages around them want torchvision and more, which has nothing to do with them."""
    for package in ("allrank", "allrank.data", "allrank.models", "allrank.models.losses"):
        spec = importlib.util.find_spec(package)
        if spec is None:
            raise ModuleNotFoundError(f"No module named {package!r}")
        sys.modules[package] = importlib.util.module_from_spec(spec)
    vars(sys.modules["allrank.models.losses"])["DEFAULT_EPS"] = 1e-10
    for name, attribute, value in (
        ("allrank.data.dataset_loading", "PADDED_Y_VALUE", -1),
        ("allrank.models.model_utils", "get_torch_device", lambda: torch.device("cpu")),
    ):
        sys.modules[name] = ModuleType(name)
        setattr(sys.modules[name], attribute, value)
    found: dict[str, Loss] = {}
    for ours, (home, name, parameters) in THEIRS.items():
        found[ours] = partial(getattr(importlib.import_module(f"allrank.models.losses.{home}"), name), **parameters)
    return found


def step(entry: Entry, scores: Tensor, relevance: Tensor) -> None:
    leaf = scores.detach().requires_grad_()
    value = entry.call(leaf, relevance)
    value.backward()
    entry.value = float(value.detach())


def lists(count: int, items: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, items, generator=generator), torch.randint(5, (count, items), generator=generator).float()


def measure(entries: list[Entry], count: int, items: int, rounds: int) -> None:
    """Everything in turn, round by round."""
    scores, relevance = lists(count, items)
    for entry in entries:
        if entry.by == "lossary":  # compiled loops, and what a first call allocates
            step(entry, scores[:2], relevance[:2])
    for number in range(rounds):
        for entry in entries:
            if not number or entry.seconds[0] < SLOW:
                entry.seconds.append(timed(partial(step, entry, scores, relevance)))
    few = max(1, count // 16)
    for entry in entries:  # what is slow holds as much for each list, and a step of it under the profiler would take long
        slow = entry.seconds[0] >= SLOW
        part = (scores[:few], relevance[:few]) if slow else (scores, relevance)
        whole = entry.value
        entry.memory = peak_bytes(partial(step, entry, *part)) * (count // few if slow else 1)
        entry.value = whole


def main(
    rounds: Annotated[int, typer.Option(help="How often everything is measured.")] = 5,
    allrank: Annotated[Path | None, typer.Option(envvar="ALLRANK", help="Where allRank is, unless it is installed.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Sixteen times fewer lists, to see that it runs.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON.")] = False,
    save: Annotated[Path | None, typer.Option(help="Write the result into this Markdown page as well.")] = None,
) -> None:
    """Measure losses of ranked lists in time and memory."""
    torch.set_num_threads(1)
    if allrank is not None:
        sys.path.insert(0, str(allrank))
    theirs, missing = {}, ""
    try:
        theirs = allrank_losses()
    except ImportError as error:
        missing = f"{error}"
    console = Console(record=save is not None, width=WIDTH if save else None, quiet=json)
    console.print(f"torch {torch.__version__}; threads: 1; {rounds} rounds.")
    if missing:
        console.print(f"Not measured: allRank: {missing} (pip install --no-deps --target PATH allrank, and --allrank PATH).")
    answer: list[dict[str, Any]] = []
    missed = []
    for count, items, beside in ((256, 240, True), (32, 1000, False)):
        count = max(1, count // 16) if quick else count
        mine = {name: Entry(name, "lossary", lossary.create(name, **parameters)) for name, parameters in OURS.items()}
        peers = {name: Entry(name, "allRank", loss) for name, loss in theirs.items() if beside}
        measure([each for name in OURS for each in (mine[name], peers.get(name)) if each is not None], count, items, rounds)
        table = Table(title=f"{count} lists x {items:,} items, float32, forward and backward", title_justify="left")
        for column in ("loss", "ms", "MB", "allRank ms", "allRank MB", "time ratio", "memory ratio", "value off"):
            table.add_column(column, justify="left" if column == "loss" else "right")
        for name, entry in mine.items():
            row: dict[str, Any] = {
                "loss": name,
                "lists": count,
                "items": items,
                "milliseconds": 1e3 * statistics.median(entry.seconds),
                "memory": entry.memory,
            }
            cells = [name, f"{row['milliseconds']:,.1f}", f"{entry.memory / 1e6:,.1f}"]
            if name in peers:
                peer = peers[name]
                row |= {
                    "peer_milliseconds": 1e3 * statistics.median(peer.seconds),
                    "peer_memory": peer.memory,
                    "time_ratio": statistics.median(map(float.__truediv__, entry.seconds[: len(peer.seconds)], peer.seconds)),
                    "memory_ratio": entry.memory / peer.memory,
                    "value_gap": abs(entry.value / peer.value - 1),
                }
                cells += [f"{row['peer_milliseconds']:,.0f}", f"{peer.memory / 1e6:,.0f}"]
                cells += [f"{row['time_ratio']:.4f}", f"{row['memory_ratio']:.4f}", f"{row['value_gap']:.0e}"]
                if max(row["time_ratio"], row["memory_ratio"]) > MOST:
                    missed.append(name)
            answer.append(row)
            table.add_row(*cells)
        console.print(table)
    if theirs:
        console.print(
            f"Target: {MOST} of allRank's time and memory, at most. {'Missed: ' + ', '.join(missed) if missed else 'Met'}."
        )
    if json:
        typer.echo(json_of.dumps({"missing": missing, "results": answer}, indent=2))
    if save is not None:
        save_section(save, "ranked lists", COMMAND, console.export_text())


if __name__ == "__main__":
    typer.run(main)
