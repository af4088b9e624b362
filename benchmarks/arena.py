"""How much time the batched program saves, in three parts.

    python benchmarks/arena.py default [--epochs 15] [--seeds 5]
    python benchmarks/arena.py grid [--epochs 3]
    python benchmarks/arena.py memory

``default``: the comparison that ``lossary compare digits`` makes, against the same runs in a plain PyTorch loop, in turn,
objective by objective, on one thread, in five rounds; making and recording the batched program is counted. The
plain loop is what people write: a model, ``torch.optim.AdamW``, a learning-rate schedule, one run after the other. The last
columns say whether both found the same: final validation accuracy of every run.

``grid``: runs per minute for 1, 8 and 64 runs and hidden layers of 64 to 1,024, as a comparison trains them, in the plain loop, and
with skorch; in interleaved rounds of the same work, of which the ratios are given with their spread.

``memory``: the most memory that a process holds which trains 8 to 512 runs at once, and what each run adds.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

import lossary
from lossary.arena.data.dataset import load
from lossary.arena.data.splits import Split, make_splits
from lossary.arena.plan.networks import make_model
from lossary.arena.plan.protocol import make_protocol
from lossary.arena.plan.recipe import Recipe
from lossary.arena.plan.tuning import LEARNING_RATES
from lossary.arena.tasks import Candidate
from lossary.arena.train.loop import Run, Trained, stacked_features, train
from lossary.arena.train.models import Trainee, make_trainee
from page import save

ROUNDS = 5
DAYS = "9.9, 11.5 and 15.1"  # medians of this very measurement, which one day cannot show
MOST_PLAIN_RUNS = 8  # runs in a loop take the same time each, so more of them would only take longer to say so


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["default", "grid", "memory"], nargs="?", default="default")
    parser.add_argument("--epochs", type=int, help="15 by default, 3 for the grid")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--save", type=Path, help="a Markdown file whose section for this part is written anew")
    parser.add_argument("--runs", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(record=options.save is not None, width=100 if options.save else None)
    if options.part == "default":
        compare_default(console, options.epochs or 15, options.seeds)
    elif options.part == "grid":
        compare_grid(console, options.epochs or 3)
    elif options.runs:
        print(peak_of(options.runs))
    else:
        compare_memory(console)
    if options.save:
        save(options.save, options.part, f"python benchmarks/arena.py {options.part}", console.export_text())


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def make(candidate: Candidate, splits: list[Split], runs: list[Run], width: int) -> list[Trainee]:
    shape = tuple(splits[0].train.features.shape[1:])
    return [
        make_trainee(
            "mlp", shape, 10, width, splits[run.split].seed,
            lossary.create(candidate.objective, **candidate.parameters), candidate.spec.family,
        )
        for run in runs
    ]  # fmt: skip


def trained(candidate: Candidate, splits: list[Split], runs: list[Run], recipe: Recipe, batched: bool, width: int = 64) -> Trained:
    result = train(make(candidate, splits, runs, width), splits, runs, recipe, batched=batched)
    if result.why_not_batched:
        raise RuntimeError(f"{candidate.label} was not batched: {result.why_not_batched}")
    return result


def accuracy(result: Trained, splits: list[Split], runs: list[Run]) -> torch.Tensor:
    prediction = result.predict(stacked_features(splits, runs, "validation"), range(len(runs))).argmax(2)
    truth = torch.stack([splits[run.split].validation.target for run in runs])
    return (prediction == truth).float().mean(1)


def compare_default(console: Console, epochs: int, seeds: int) -> None:
    protocol = make_protocol(load("digits"), epochs=epochs, seeds=seeds)
    splits = make_splits(load("digits"), protocol.seeds, protocol.validation_share, protocol.test_share)
    runs = [Run(place, rate) for place in range(len(splits)) for rate in protocol.learning_rates]
    table = Table("objective", "batched s", "plain s", "ratio", "runs alike", "largest gap", box=None)
    trained(protocol.candidates[0], splits, runs[:1], Recipe(1, protocol.recipe.batch_size), batched=True)  # costs of first use
    totals: dict[bool, list[float]] = {True: [0.0] * ROUNDS, False: [0.0] * ROUNDS}
    with console.status("training"):
        for candidate in protocol.candidates:
            results: dict[bool, Trained] = {}
            rounds: dict[bool, list[float]] = {True: [], False: []}
            for batched in (True, False) * ROUNDS:

                def work(batched: bool = batched, candidate: Candidate = candidate, results: dict[bool, Trained] = results) -> None:
                    results[batched] = trained(candidate, splits, runs, protocol.recipe, batched)

                rounds[batched].append(timed(work))
            seconds = {batched: statistics.median(found) for batched, found in rounds.items()}
            gap = (accuracy(results[True], splits, runs) - accuracy(results[False], splits, runs)).abs()
            alike = f"{int((gap == 0).sum())} of {len(runs)}"
            ratios = [plain / ours for plain, ours in zip(rounds[False], rounds[True], strict=True)]
            table.add_row(
                candidate.label, f"{seconds[True]:.1f}", f"{seconds[False]:.1f}", spread(ratios), alike, f"{gap.max():.4f}"
            )
            totals = {batched: [a + b for a, b in zip(totals[batched], rounds[batched], strict=True)] for batched in totals}
    ratios = [plain / ours for plain, ours in zip(totals[False], totals[True], strict=True)]
    whole = [f"{statistics.median(totals[batched]):.1f}" for batched in (True, False)]
    table.add_row("all", *whole, spread(ratios), "", "", style="bold")
    console.print(table)
    console.print(
        f"{protocol.runs} runs of {epochs} epochs in {ROUNDS} interleaved rounds; of the times less time than the plain loop the"
        " least, the median and the most of a round."
    )


def spread(values: Sequence[float]) -> str:
    """The least, the median and the most."""
    return f"{min(values):.1f} {statistics.median(values):.1f} {max(values):.1f}"


def compare_grid(console: Console, epochs: int) -> None:
    candidate = Candidate("cross_entropy")
    splits = make_splits(load("digits"), (0,), 0.2, 0.2)
    recipe = Recipe(epochs, 64)
    table = Table("width", "runs", "ours /min", "plain /min", "skorch /min", "x plain", "x skorch", box=None)
    trained(candidate, splits, [Run(0, 1e-3)], Recipe(1, 64), batched=True)
    with console.status("training"):
        for width in (64, 256, 1024):
            for count in (1, 8, 64):
                runs = [Run(0, LEARNING_RATES[i % len(LEARNING_RATES)]) for i in range(count)]
                some = runs[:MOST_PLAIN_RUNS]
                ways: dict[str, tuple[int, Callable[[], object]]] = {
                    "batched": (count, lambda runs=runs, width=width: trained(candidate, splits, runs, recipe, True, width)),  # type: ignore[misc]
                    "plain": (len(some), lambda some=some, width=width: trained(candidate, splits, some, recipe, False, width)),  # type: ignore[misc]
                    "skorch": (1, lambda width=width: with_skorch(splits[0], epochs, width)),  # type: ignore[misc]
                }
                rounds = [{name: timed(work) / size for name, (size, work) in ways.items()} for _ in range(ROUNDS)]
                middle = {name: statistics.median(found[name] for found in rounds) for name in ways}
                table.add_row(
                    str(width), str(count), *(f"{60 / middle[name]:,.0f}" for name in ways),
                    *(spread([found[other] / found["batched"] for found in rounds]) for other in ("plain", "skorch")),
                )  # fmt: skip
    console.print(table)
    console.print(f"One run is {epochs} epochs of digits, on one thread; medians of {ROUNDS} interleaved rounds, and of the ratios")
    console.print(f"the least, the median and the most. 64 runs of width 64: {DAYS} times the plain loop on three days.")


def with_skorch(split: Split, epochs: int, width: int) -> None:
    from skorch import NeuralNetClassifier

    network = NeuralNetClassifier(
        make_model("mlp", tuple(split.train.features.shape[1:]), 10, width),
        criterion=torch.nn.CrossEntropyLoss, optimizer=torch.optim.AdamW, lr=1e-3, batch_size=64, max_epochs=epochs,
        train_split=None, iterator_train__shuffle=True, iterator_train__drop_last=True, verbose=0,
    )  # fmt: skip
    network.fit(split.train.features, split.train.target)


def peak_of(count: int) -> int:
    """Bytes that this process held at most after training so many runs at once."""
    splits = make_splits(load("digits"), (0,), 0.2, 0.2)
    trained(Candidate("cross_entropy"), splits, [Run(0, 1e-3)] * count, Recipe(1, 64), True, 256)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def compare_memory(console: Console) -> None:
    counts = (8, 64, 128, 256, 512)
    peaks = [
        int(subprocess.run([sys.executable, __file__, "memory", "--runs", str(n)], capture_output=True, check=True).stdout)
        for n in counts
    ]
    table = Table("runs", "peak MB", "MB for each run more", box=None)
    for place, (count, peak) in enumerate(zip(counts, peaks, strict=True)):
        more = (peak - peaks[place - 1]) / (count - counts[place - 1]) / 1e6 if place else float("nan")
        table.add_row(str(count), f"{peak / 1e6:.0f}", f"{more:.2f}" if place else "")
    console.print(table)
    console.print("One hidden layer of 256 on digits, batches of 64: 19,210 weights a run.")


if __name__ == "__main__":
    main()
