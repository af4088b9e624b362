"""How much time the batched program saves: the default comparison on digits against the same runs in a plain PyTorch loop.

    python benchmarks/arena.py [--epochs 60] [--seeds 5]

Both train every default objective with every seed and learning rate, on one thread, in turn, objective by objective. The
plain loop is what people write: a model, ``torch.optim.AdamW``, a learning-rate schedule, one run after the other. The last
columns say whether both found the same: final validation accuracy of every run, and how far apart it ever is.
"""

import argparse
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table

import lossary
from lossary.arena.data import load
from lossary.arena.models import make_trainee
from lossary.arena.protocol import make_protocol
from lossary.arena.splits import Split, make_splits
from lossary.arena.tasks import Candidate
from lossary.arena.train import Recipe, Run, Trained, stacked_features, train


def timed(work: Callable[[], Trained]) -> tuple[Trained, float]:
    started = time.perf_counter()
    result = work()
    return result, time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = load("digits")
    protocol = make_protocol(data, epochs=options.epochs, seeds=options.seeds)
    splits = make_splits(data, protocol.seeds, protocol.validation_share, protocol.test_share)
    runs = [Run(place, rate) for place in range(len(splits)) for rate in protocol.learning_rates]
    console = Console()
    table = Table("objective", "batched s", "plain s", "ratio", "runs alike", "largest gap", box=None)
    run_once(protocol.candidates[0], splits, runs[:1], Recipe(1, protocol.recipe.batch_size), batched=True)  # first-use costs
    totals = [0.0, 0.0]
    with console.status("training"):
        for candidate in protocol.candidates:
            batched, fast = timed(lambda c=candidate: run_once(c, splits, runs, protocol.recipe, batched=True))  # type: ignore[misc]
            plain, slow = timed(lambda c=candidate: run_once(c, splits, runs, protocol.recipe, batched=False))  # type: ignore[misc]
            gap = (accuracy(batched, splits, runs) - accuracy(plain, splits, runs)).abs()
            alike = f"{int((gap == 0).sum())} of {len(runs)}"
            table.add_row(candidate.label, f"{fast:.1f}", f"{slow:.1f}", f"{slow / fast:.1f}", alike, f"{gap.max():.4f}")
            totals = [totals[0] + fast, totals[1] + slow]
    table.add_row("all", f"{totals[0]:.1f}", f"{totals[1]:.1f}", f"{totals[1] / totals[0]:.1f}", "", "", style="bold")
    console.print(table)
    console.print(
        f"{protocol.runs} runs of {options.epochs} epochs: {totals[1] / totals[0]:.1f} times less time than the plain loop."
    )


def run_once(candidate: Candidate, splits: list[Split], runs: list[Run], recipe: Recipe, batched: bool) -> Trained:
    trainees = [
        make_trainee(
            "mlp", (splits[0].width,), 10, 64, splits[run.split].seed,
            lossary.create(candidate.objective, **candidate.parameters), "classification",
        )
        for run in runs
    ]  # fmt: skip
    result = train(trainees, splits, runs, recipe, batched=batched)
    if result.batched != batched:
        raise RuntimeError(f"{candidate.label} was not batched: {result.why_not_batched}")
    return result


def accuracy(trained: Trained, splits: list[Split], runs: list[Run]) -> torch.Tensor:
    prediction = trained.predict(stacked_features(splits, runs, "validation"), range(len(runs))).argmax(2)
    truth = torch.stack([splits[run.split].validation.target for run in runs])
    return (prediction == truth).float().mean(1)


if __name__ == "__main__":
    main()
