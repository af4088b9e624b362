"""How fast the losses of all pairs are: against the matrix products that they need, plain operations, and another package.

The limit of a loss of pairs is three products: the similarities, and the gradient on both sides of them. Forward and backward
together are timed in rounds in which everything has its turn, each right after the limit, and what is shown is the median over the
rounds of the ratio of the two. On one thread it is the processor's time. Memory is the most that a process of its own holds
beyond what it held before, in MiB; another package is timed there, once, as that takes long enough. What needs more than
8 GiB is a dash. "Plain" is the same row function on the whole matrix, as people write it with masks.
"""

import contextlib
import gc
import importlib
import json as json_of
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

import lossary
from lossary import _pairs
from page import save as save_section

COMMAND = "python benchmarks/pairs.py"
WIDTH, CLASS = 256, 8  # of an embedding; samples of each class
ROUNDS, SLOW = 3, 20  # what takes longer than so many limits has one round

Loss = Callable[[Tensor, Tensor], Tensor]

OURS = (
    "contrastive",
    "triplet",
    "nt_xent",
    "sup_con",
    "circle",
    "multi_similarity",
    "threshold_consistent_margin",
    "siglip",
    "info_nce",
)
PAIRED = ("siglip", "info_nce")
LARGE = ("nt_xent", "triplet")  # measured on more than 4,096 samples, each for a minute
# Of PyTorch Metric Learning, with the parameters that make it equal ours, and the largest batch that it holds in 8 GiB.
PEERS: dict[str, tuple[str, dict[str, Any], int]] = {
    "contrastive": ("ContrastiveLoss", {}, 4096),
    "triplet": ("TripletMarginLoss", {"margin": 0.2}, 512),
    "nt_xent": ("NTXentLoss", {"temperature": 0.07}, 512),
    "sup_con": ("SupConLoss", {"temperature": 0.1}, 4096),
    "circle": ("CircleLoss", {}, 4096),
    "multi_similarity": ("MultiSimilarityLoss", {"alpha": 2, "beta": 50, "base": 1.0}, 4096),
    "threshold_consistent_margin": ("ThresholdConsistentMarginLoss", {"lambda_plus": 1.0, "lambda_minus": 1.0}, 512),
}


def batch(rows: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(rows) % max(1, rows // CLASS)
    return torch.randn(rows, WIDTH, generator=generator), labels


def ours(name: str) -> Loss:
    loss = lossary.create("multi_similarity", mining=False) if name == "multi_similarity" else lossary.create(name)
    if name in PAIRED:
        return lambda x, _: loss(x, x.roll(1, 0))
    return loss


def peer(name: str) -> Loss:
    losses = importlib.import_module("pytorch_metric_learning.losses")
    kind, parameters, _ = PEERS[name]
    made: Loss = getattr(losses, kind)(**parameters)
    return made


def step(loss: Loss, x: Tensor, labels: Tensor, whole: bool) -> Callable[[], object]:
    """One forward and backward; the plain form has the whole matrix as one block."""
    leaf = x.clone().requires_grad_()

    def run() -> object:
        kept, _pairs.SMALL = _pairs.SMALL, x.shape[0] ** 2 if whole else _pairs.SMALL
        try:
            return torch.autograd.grad(loss(leaf, labels), leaf)
        finally:
            _pairs.SMALL = kept

    return run


def limit(x: Tensor) -> Callable[[], object]:
    unit = torch.nn.functional.normalize(x, dim=1)

    def run() -> object:
        s = unit @ unit.T
        return s @ unit + s.T @ unit

    return run


def seconds(run: Callable[[], object]) -> float:
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    run()
    return clock() - start


def candidates(name: str, rows: int) -> dict[str, tuple[Loss, bool]]:
    found: dict[str, tuple[Loss, bool]] = {"lossary": (ours(name), False)}
    if rows <= 4096 and name not in PAIRED:
        found["plain"] = (ours(name), True)
    if name in PEERS and rows <= PEERS[name][2]:
        with contextlib.suppress(ImportError):
            found["PML"] = (peer(name), False)
    return found


def alone(name: str, rows: int, by: str) -> tuple[float, float] | None:
    """MiB that one forward and backward adds to a process of its own, and its seconds."""
    arguments = [sys.executable, __file__, "--alone", f"{name},{rows},{by}"]
    done = subprocess.run(arguments, capture_output=True, text=True)
    if done.returncode:
        return None
    mib, took = done.stdout.split()
    return float(mib), float(took)


def most_memory() -> float:
    """MiB that this process has held at most. What getrusage says is at least what the process that started it held."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def print_alone(what: str) -> None:
    name, rows, by = what.split(",")
    loss, whole = candidates(name, int(rows))[by]
    for size in (64,) if by == "PML" else (256, 300):
        step(loss, *batch(size), whole)()  # what importing and compiling takes is there already
    run = step(loss, *batch(int(rows)), whole)
    before = most_memory()
    took = seconds(run)
    print(most_memory() - before, took)


def measured(name: str, rows: int) -> dict[str, dict[str, float | None]]:
    x, labels = batch(rows)
    found = candidates(name, rows)
    apart = {by: alone(name, rows, by) for by in found}
    mib = {by: None if each is None else each[0] for by, each in apart.items()}
    if rows > 4096:  # one run is enough, and there is no limit to hold it against
        return {by: {"seconds": None if each is None else each[1], "of_limit": None, "mib": mib[by]} for by, each in apart.items()}
    least = limit(x)
    runs = {by: step(loss, x, labels, whole) for by, (loss, whole) in found.items() if by != "PML"}
    runs["lossary"]()  # what is compiled is compiled
    ratios: dict[str, list[float]] = {by: [] for by in runs}
    times: dict[str, list[float]] = {by: [] for by in runs}
    for _ in range(ROUNDS):
        for by, run in runs.items():
            if ratios[by] and ratios[by][0] > SLOW:
                continue
            base = seconds(least)
            times[by].append(seconds(run))
            ratios[by].append(times[by][-1] / base)
            gc.collect()
    result: dict[str, dict[str, float | None]] = {
        by: {"seconds": statistics.median(times[by]), "of_limit": statistics.median(ratios[by]), "mib": mib[by]} for by in runs
    }
    once = apart.get("PML")
    return result if once is None else {**result, "PML": {"seconds": once[1], "of_limit": None, "mib": once[0]}}


def shown(rows: int, found: dict[str, dict[str, dict[str, float | None]]]) -> Table:
    table = Table(title=f"{rows:,} x {WIDTH}", title_justify="left", box=None, pad_edge=False)
    table.add_column("loss")
    for column in ("ms", "x limit", "plain / ours", "PML / ours", "MiB", "plain / ours", "PML / ours"):
        table.add_column(column, justify="right")

    def ratio(each: dict[str, dict[str, float | None]], by: str, what: str) -> str:
        own, other = each["lossary"][what], each.get(by, {}).get(what)
        return "-" if own is None or other is None else f"{other / max(own, 1.0 if what == 'mib' else 1e-9):,.1f}"

    for name, each in found.items():
        own = each["lossary"]
        of_limit = own["of_limit"]
        table.add_row(
            name,
            f"{1e3 * (own['seconds'] or 0):,.1f}",
            "-" if of_limit is None else f"{of_limit:.2f}",
            ratio(each, "plain", "seconds"),
            ratio(each, "PML", "seconds"),
            "-" if own["mib"] is None else f"{own['mib']:,.0f}",
            ratio(each, "plain", "mib"),
            ratio(each, "PML", "mib"),
        )
    return table


def main(
    only: Annotated[str, typer.Option(help="Names of losses, with commas.")] = "",
    rows: Annotated[str, typer.Option(help="Sizes of the batch, with commas.")] = "512,4096,65536",
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="Print numbers as JSON.")] = False,
    save: Annotated[Path | None, typer.Option(help="Write the table into this page.")] = None,
    alone: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Measure losses of all pairs."""
    torch.set_num_threads(threads)
    if alone:
        print_alone(alone)
        return
    names = [name for name in only.split(",") if name] or list(OURS)
    found = {
        size: {name: measured(name, size) for name in names if size <= 4096 or name in LARGE} for size in map(int, rows.split(","))
    }
    if json:
        print(json_of.dumps(found))
        return
    console = Console(width=112, record=True)
    for size, each in found.items():
        console.print(shown(size, each))
        console.print()
    if save is not None:
        save_section(save, "Losses of pairs", COMMAND, console.export_text())


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    typer.run(main)
