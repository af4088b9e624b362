"""How fast the losses of all pairs are: against the matrix products that they need, plain operations, and other packages.

The limit of a loss of pairs is three products: the similarities, and the gradient on both sides of them. Forward and backward
together are timed in rounds in which everything has its turn, each right after the limit, and what is shown is the median over the
rounds of the ratio of the two. On one thread it is the processor's time. Memory is the most that a process of its own holds
beyond what it held before, in MiB; another package is timed there, once, as that takes long enough. What needs more than
8 GiB is a dash. "Plain" is the same row function on the whole matrix, as people write it with masks. PML is PyTorch Metric
Learning, ST are the losses of sentence-transformers on embeddings that are there already; a value that is not ours is said below
the tables. Of the latter's other losses none is a loss of ours: they square distances of given pairs, or take another negative.
"""

import gc
import importlib
import json as json_of
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional

import lossary
from lossary._fast.pairs import rule as pairs_rule
from page import save as save_section

COMMAND = "python benchmarks/pairs.py"
WIDTH, CLASS = 256, 8  # of an embedding; samples of each class
ROUNDS, SLOW = 3, 20  # what takes longer than so many limits has one round
SAME = 1e-4  # by how much of ours a value may differ

Loss = Callable[[Tensor, Tensor], Tensor]

OURS = (
    "contrastive",
    "triplet",
    "batch_hard_triplet",
    "semi_hard_triplet",
    "margin",
    "angular",
    "lifted_structure",
    "generalized_lifted_structure",
    "nt_xent",
    "sup_con",
    "circle",
    "multi_similarity",
    "threshold_consistent_margin",
    "siglip",
    "info_nce",
    "clip",
)
PAIRED = ("siglip", "info_nce", "clip")
LARGE = ("nt_xent", "triplet")  # measured on more than 4,096 samples, each for a minute
TEMPERATURE = 0.07  # of the paired losses


@dataclass(frozen=True)
class Peer:
    """A loss of another package with the parameters that make it equal ours, and the largest batch that it holds in 8 GiB."""

    by: str
    name: str
    parameters: dict[str, Any]
    rows: int

    def load(self) -> Loss:
        made = getattr(package(self.by), self.name)
        if self.by == "PML":
            loss: Loss = made(**self.parameters)
            if self.name == "AngularLoss":  # it takes the negatives as long as they come
                return lambda x, labels: loss(functional.normalize(x, dim=1), labels)
            return loss
        loss_of: Callable[..., Tensor] = made(
            None, **self.parameters
        ).compute_loss_from_embeddings  # the model, which would make them, has no part in it
        if self.name == "MultipleNegativesRankingLoss":
            return lambda x, _: loss_of([x, x.roll(1, 0)], None)
        return lambda x, labels: loss_of([functional.normalize(x, dim=1)], labels)


MODULES = {"PML": "pytorch_metric_learning.losses", "ST": "sentence_transformers.sentence_transformer.losses"}
BOTH_WAYS = {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"}
RANKING = "MultipleNegativesRankingLoss"
PEERS: dict[str, tuple[Peer, ...]] = {
    "contrastive": (Peer("PML", "ContrastiveLoss", {}, 4096),),
    "triplet": (
        Peer("PML", "TripletMarginLoss", {"margin": 0.2}, 512),
        Peer("ST", "BatchAllTripletLoss", {"margin": 0.2}, 4096),
    ),
    "batch_hard_triplet": (Peer("ST", "BatchHardTripletLoss", {"margin": 0.2}, 4096),),
    "semi_hard_triplet": (Peer("ST", "BatchSemiHardTripletLoss", {"margin": 0.2}, 512),),
    "margin": (Peer("PML", "MarginLoss", {}, 512),),
    "angular": (Peer("PML", "AngularLoss", {"alpha": 40}, 4096),),
    "generalized_lifted_structure": (Peer("PML", "GeneralizedLiftedStructureLoss", {}, 4096),),
    "nt_xent": (Peer("PML", "NTXentLoss", {"temperature": 0.07}, 512),),
    "sup_con": (Peer("PML", "SupConLoss", {"temperature": 0.1}, 4096),),
    "circle": (Peer("PML", "CircleLoss", {}, 4096),),
    "multi_similarity": (Peer("PML", "MultiSimilarityLoss", {"alpha": 2, "beta": 50, "base": 1.0}, 4096),),
    "threshold_consistent_margin": (Peer("PML", "ThresholdConsistentMarginLoss", {"lambda_plus": 1.0, "lambda_minus": 1.0}, 512),),
    "info_nce": (Peer("ST", RANKING, {"scale": 1 / TEMPERATURE}, 4096),),
    "clip": (Peer("ST", RANKING, {"scale": 1 / TEMPERATURE, **BOTH_WAYS}, 4096),),
}


@cache
def package(by: str) -> Any:
    return importlib.import_module(MODULES[by])


@cache
def reason_without(by: str) -> str | None:
    """Why a package is not measured. Asked in a process of its own, as some take seconds to import."""
    asked = subprocess.run([sys.executable, "-c", f"import {MODULES[by]}"], capture_output=True, text=True)
    return asked.stderr.strip().splitlines()[-1] if asked.returncode else None


def batch(rows: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(rows) % max(1, rows // CLASS)
    return torch.randn(rows, WIDTH, generator=generator), labels


def ours(name: str) -> Loss:
    given: dict[str, Any] = {"multi_similarity": {"mining": False}, "clip": {"learnable": False}}.get(name, {})
    loss: Loss = lossary.create(name, **given)
    if name in PAIRED:
        return lambda x, _: loss(x, x.roll(1, 0))
    return loss


def step(loss: Loss, x: Tensor, labels: Tensor, whole: bool) -> Callable[[], float]:
    """One forward and backward, which gives the value; the plain form has the whole matrix as one block."""
    leaf = x.clone().requires_grad_()

    def run() -> float:
        kept, pairs_rule.SMALL = pairs_rule.SMALL, x.shape[0] ** 2 if whole else pairs_rule.SMALL
        try:
            value = loss(leaf, labels)
            torch.autograd.grad(value, leaf)
            return float(value.detach())
        finally:
            pairs_rule.SMALL = kept

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


def candidates(name: str, rows: int) -> dict[str, Callable[[], tuple[Loss, bool]]]:
    """Who computes a loss of so many rows: how to make it, and whether the whole matrix is one block."""
    found: dict[str, Callable[[], tuple[Loss, bool]]] = {"lossary": lambda: (ours(name), False)}
    if rows <= 4096 and name not in PAIRED:
        found["plain"] = lambda: (ours(name), True)
    for peer in PEERS.get(name, ()):
        if rows <= peer.rows and reason_without(peer.by) is None:
            found[peer.by] = lambda peer=peer: (peer.load(), False)  # type: ignore[misc]
    return found


def alone(name: str, rows: int, by: str) -> dict[str, float] | None:
    """MiB that one forward and backward adds to a process of its own, its seconds, and the value."""
    arguments = [sys.executable, __file__, "--alone", f"{name},{rows},{by}"]
    done = subprocess.run(arguments, capture_output=True, text=True)
    if done.returncode:
        return None
    found: dict[str, float] = json_of.loads(done.stdout)
    return found


def most_memory() -> float:
    """MiB that this process has held at most. What getrusage says is at least what the process that started it held."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def print_alone(what: str) -> None:
    name, rows, by = what.split(",")
    loss, whole = candidates(name, int(rows))[by]()
    for size in (64,) if by in MODULES else (256, 300):
        step(loss, *batch(size), whole)()  # what importing and compiling takes is there already
    run = step(loss, *batch(int(rows)), whole)
    values: list[float] = []
    before = most_memory()
    took = seconds(lambda: values.append(run()))
    print(json_of.dumps({"mib": most_memory() - before, "seconds": took, "value": values[0]}))


def measured(name: str, rows: int) -> dict[str, dict[str, float | None]]:
    x, labels = batch(rows)
    found = candidates(name, rows)
    result: dict[str, dict[str, float | None]] = {}
    for by in found:
        apart: dict[str, Any] = alone(name, rows, by) or {"mib": None, "seconds": None, "value": None}
        result[by] = {**apart, "of_limit": None, "value_gap": None}
        own, value = result["lossary"]["value"], apart["value"]
        if own is not None and value is not None:
            result[by]["value_gap"] = abs(value - own) / max(abs(own), 1e-12)
    if rows > 4096:  # one run is enough, and there is no limit to hold it against
        return result
    least = limit(x)
    runs = {by: step(loss, x, labels, whole) for by, (loss, whole) in ((by, found[by]()) for by in found if by not in MODULES)}
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
    for by in runs:
        result[by] |= {"seconds": statistics.median(times[by]), "of_limit": statistics.median(ratios[by])}
    return result


def shown(rows: int, found: dict[str, dict[str, dict[str, float | None]]]) -> Table:
    table = Table(title=f"{rows:,} x {WIDTH}", title_justify="left", box=None, pad_edge=False)
    table.add_column("loss")
    others = ("plain", *MODULES)
    for column in ("ms", "x limit", *(f"{by} / ours" for by in others), "MiB", *(f"{by} / ours" for by in others)):
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
            *(ratio(each, by, "seconds") for by in others),
            "-" if own["mib"] is None else f"{own['mib']:,.0f}",
            *(ratio(each, by, "mib") for by in others),
        )
    return table


def remarks(names: list[str], found: dict[int, dict[str, dict[str, dict[str, float | None]]]]) -> list[str]:
    """What is not in the tables, and what in them is not the same loss."""
    said = []
    for by, module in MODULES.items():
        reason = reason_without(by)
        if reason is not None and any(peer.by == by for name in names for peer in PEERS.get(name, ())):
            said.append(f"Not measured: {by} ({module.split('.')[0].replace('_', '-')}): {reason}.")
    for rows, each in found.items():
        for name, one in each.items():
            for by, numbers in one.items():
                gap = numbers["value_gap"]
                if gap is not None and gap > SAME:
                    said.append(f"{name} at {rows:,}: the value of {by} differs by {gap:.1e} of ours.")
    return said or ["All values are ours."]


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
    console = Console(width=124, record=True)
    for size, each in found.items():
        console.print(shown(size, each))
        console.print()
    for remark in remarks(names, found):
        console.print(remark)
    if save is not None:
        save_section(save, "Losses of pairs", COMMAND, console.export_text())


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    typer.run(main)
