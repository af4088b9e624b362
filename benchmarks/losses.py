"""How fast the losses are: against memory itself, against PyTorch's own loss, and against other packages.

The limit of a loss on logits is one read of them and one write of their gradient, which is ``logits.clone()``; soft targets have
to be read too. Forward and backward together are timed in rounds in which everything has its turn, each right after the limit,
and what is shown is the median over the rounds of the ratio of the two; what is many times slower has one round. Memory is the
most that the tensors of one forward and backward hold at once beside the logits and the target, as a multiple of the logits.
On one thread it is the processor's time that is measured. Compiling a loop, a second or two once on a machine, is not in it.

Small batches are compared with the same loss in plain operations on the whole batch: our own, with the same rule of targets and the
same checks ("plain"), and the formula alone, as people write it for hard labels of which none is ignored ("bare"). The smooth
calibration error of a million predictions is compared with relplot, and with a quadrature.
"""

import json as json_of
import math
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # read when torch is imported: the profiler would write lines to stderr

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional

import lossary
from lossary._core.registry import Spec, spec, specs
from lossary._fast import dispatch
from lossary.errors import LossaryError
from lossary.metrics import smooth_ece
from page import save as save_section
from peers import COMPOSED, class_counts, load_peers, module_alone, version_of

COMMAND = "python benchmarks/losses.py"
MOST_MEMORY = 1.1  # of the logits: the gradient, and a few blocks
NO_SLOWER = 1.05  # small batches: as near to 1 as their timing repeats
TIMES_RELPLOT = 8.0
ASKED_AND_GIVEN_BACK = 1 << 24  # bytes that the loop over blocks asks for and gives back untouched, which holds no memory
MOST_ROUNDS = 7
SLOW = 5  # times as long as PyTorch's loss; what takes longer is not worth the time of more than one round
WIDTH = 112
QUICK = 64  # times fewer rows

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Setting:
    """One size and kind of batch, and what has to be met there: times the limit, and times PyTorch's own loss."""

    target: str
    family: str
    rows: int
    columns: int
    soft: bool
    share: float  # of the time that there is
    mixed: bool = False  # two classes have all of the probability, as where two samples are mixed
    of_limit: float | None = None
    of_torch: float | None = None
    peers: bool = False
    memory_rows: int | None = None  # as memory grows with the rows, fewer will do

    @property
    def title(self) -> str:
        return f"{self.rows:,} x {self.columns:,}, {self.target}"

    @property
    def torch_loss(self) -> Loss:
        return functional.cross_entropy if self.family == "classification" else functional.binary_cross_entropy_with_logits

    @property
    def torch_name(self) -> str:
        return "cross_entropy" if self.family == "classification" else "BCEWithLogits"


SETTINGS = (
    Setting("class indices", "classification", 65_536, 1_000, False, 0.22, of_limit=2.5, of_torch=0.75, peers=True),
    Setting("class indices", "classification", 8_192, 32_000, False, 0.24, of_limit=2.5, of_torch=0.75, memory_rows=2_048),
    Setting("probabilities", "classification", 65_536, 1_000, True, 0.17, of_limit=2.5, of_torch=0.75),
    Setting("probabilities", "classification", 2_048, 32_000, True, 0.15, of_limit=2.5, of_torch=0.75),
    Setting("two classes mixed", "classification", 32_768, 1_000, True, 0.09, mixed=True, of_limit=2.5, of_torch=0.75),
    Setting("labels", "multilabel", 8_192, 5_000, False, 0.1, of_limit=3.5, of_torch=0.6, peers=True),
    Setting("ranking of labels", "label_ranking", 8_192, 5_000, False, 0.03),
)
SMALL = ((32, 10), (128, 100))


@dataclass(frozen=True)
class Row:
    """What one loss took in one setting."""

    loss: str
    by: str  # "lossary", "torch" or another package
    milliseconds: float
    of_limit: float
    of_torch: float
    memory: float
    of_ours: float | None = None  # for another package's loss
    missed: tuple[str, ...] | None = None  # the targets that are not met, where there are targets
    value_gap: float = 0.0  # relative, for another package's loss


def timed(work: Callable[[], object]) -> float:
    """Seconds; on one thread those of the processor, which others on the machine hardly lengthen."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    started = clock()
    work()
    return clock() - started


def peak_bytes(work: Callable[[], object]) -> int:
    """The most that the tensors allocated meanwhile hold at once."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    if profiler.profiler is None or profiler.profiler.kineto_results is None:
        raise RuntimeError("this build of torch has no memory profiler")
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    held, most = 0, 0
    for change, following in zip(changes, [*changes[1:], 0], strict=True):
        held += change
        if (change, following) != (ASKED_AND_GIVEN_BACK, -ASKED_AND_GIVEN_BACK):
            most = max(most, held)
    return most


def wanted(found: Spec) -> str | None:
    """Why an objective is left out, or None: the limit is that of a mean over samples of a function of logits and target."""
    if not found.decomposable:
        return "a function of the batch as a whole"
    if found.stochastic:
        return "it draws random numbers"
    if found.consumes != "logits":
        return "it has weights of its own"
    if found.requires:
        return f"it needs {' and '.join(found.requires)} too"
    unknown = {p.name for p in found.parameters if p.required} - {"class_counts"}
    if unknown:
        return f"it has to be built with {' and '.join(sorted(unknown))}"
    return None


def make(name: str, columns: int) -> Loss:
    if any(p.required and p.name == "class_counts" for p in spec(name).parameters):
        return lossary.create(name, class_counts=class_counts(columns))
    return lossary.create(name)


def batch(family: str, rows: int, columns: int, soft: bool, mixed: bool = False) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(rows, columns, generator=generator).mul_(2).requires_grad_()
    if family == "multilabel":
        return logits, (torch.rand(rows, columns, generator=generator) < 0.05).float()
    if family == "label_ranking":
        target = torch.zeros(rows, columns)
        return logits, target.scatter_(1, torch.randint(columns, (rows, 5), generator=generator), 1.0)
    if mixed:
        pair = torch.randint(columns, (2, rows, 1), generator=generator)
        share = torch.rand(rows, 1, generator=generator)
        target = torch.zeros(rows, columns).scatter_add_(1, pair[0], share)
        return logits, target.scatter_add_(1, pair[1], 1 - share)
    if soft:
        return logits, torch.rand(rows, columns, generator=generator).pow_(8).softmax(1)
    return logits, torch.randint(columns, (rows,), generator=generator)


def forward_and_backward(loss: Loss, logits: Tensor, target: Tensor) -> Tensor:
    logits.grad = None
    value = loss(logits, target)
    value.backward()
    return value.detach()


def measure(setting: Setting, names: list[str], seconds: float, most_rounds: int) -> tuple[int, list[Row]]:
    """How many rounds there was time for, and what they gave."""
    started = time.perf_counter()
    logits, target = batch(setting.family, setting.rows, setting.columns, setting.soft, setting.mixed)
    peers = load_peers(set(names))[0] if setting.peers else {}
    contestants: dict[tuple[str, str], Loss] = {(setting.torch_name, "torch"): setting.torch_loss}
    for name in names:
        contestants[name, "lossary"] = make(name, setting.columns)
        contestants |= {(name, peer.label): loss for peer, loss in peers.get(name, [])}

    def limit() -> object:
        return logits.detach().clone(), target.sum() if setting.soft else None

    some, truth = logits, target
    if setting.memory_rows is not None:
        some, truth = logits[: setting.memory_rows].detach().clone().requires_grad_(), target[: setting.memory_rows].clone()
    values: dict[tuple[str, str], Tensor] = {}
    memory: dict[tuple[str, str], float] = {}
    for key, loss in contestants.items():
        some.grad = None

        def first(key: tuple[str, str] = key, loss: Loss = loss) -> None:
            values[key] = forward_and_backward(loss, some, truth)

        memory[key] = peak_bytes(first) / (some.numel() * some.element_size())
    some.grad = None
    rounds: list[dict[tuple[str, str], tuple[float, float]]] = []
    slow: set[tuple[str, str]] = set()
    left, longest = seconds - (time.perf_counter() - started), 0.0
    while len(rounds) < most_rounds and (not rounds or longest < left):
        began = time.perf_counter()
        rounds.append({})
        for key, loss in contestants.items():
            if key in slow:
                continue
            logits.grad = None
            beside = timed(limit)
            rounds[-1][key] = beside, timed(lambda loss=loss: forward_and_backward(loss, logits, target))  # type: ignore[misc]
        if len(rounds) == 1:
            bound = SLOW * rounds[0][setting.torch_name, "torch"][1]
            slow = {key for key, (_, own) in rounds[0].items() if own > bound}
        took_now = time.perf_counter() - began
        busy = sum(beside + own for beside, own in rounds[-1].values())
        kept = sum(beside + own for key, (beside, own) in rounds[-1].items() if key not in slow)
        longest, left = took_now * kept / busy, left - took_now
    took = {key: statistics.median(each[key][1] for each in rounds if key in each) for key in contestants}
    ratio = {key: statistics.median(each[key][1] / each[key][0] for each in rounds if key in each) for key in contestants}
    of_torch = ratio[setting.torch_name, "torch"]
    rows = []
    for name, by in contestants:
        key, ours = (name, by), (name, "lossary")
        row = Row(name, by, took[key] * 1000, ratio[key], ratio[key] / of_torch, memory[key])
        if by == "lossary" and setting.of_limit is not None and setting.of_torch is not None:
            bounds = {"limit": setting.of_limit, "torch": setting.of_torch, "memory": MOST_MEMORY}
            reached = {"limit": row.of_limit, "torch": row.of_torch, "memory": row.memory}
            row = replace(row, missed=tuple(target for target, bound in bounds.items() if reached[target] > bound))
        elif ours in values and by != "lossary":
            gap = (values[key] / values[ours] - 1).abs()
            row = replace(row, of_ours=ratio[key] / ratio[ours], value_gap=float(gap))
        rows.append(row)
    return len(rounds), rows


@dataclass(frozen=True)
class SmallRow:
    """One forward and backward of a small batch."""

    loss: str
    rows: int
    columns: int
    microseconds: float
    of_plain: float
    of_bare: float

    @property
    def missed(self) -> tuple[str, ...]:
        return tuple(name for name, ratio in (("plain", self.of_plain), ("bare", self.of_bare)) if ratio > NO_SLOWER)


def in_plain_operations(loss: Loss) -> Loss:
    """A loss of ours without its compiled loop."""

    def plain(logits: Tensor, target: Tensor) -> Tensor:
        kept, dispatch.LOOPS = dispatch.LOOPS, False
        try:
            return loss(logits, target)
        finally:
            dispatch.LOOPS = kept

    return plain


def measure_small(names: list[str], rounds: int, repeats: int) -> list[SmallRow]:
    """Every loss of which there is a composed form, against it."""
    found = []
    for name in (name for name in names if name in COMPOSED):
        for rows, columns in SMALL:
            logits, target = batch(spec(name).family, rows, columns, False)
            ours = make(name, columns)
            contestants = [ours, in_plain_operations(ours), COMPOSED[name]]
            values = [loss(logits, target) for loss in contestants]
            for value in values[1:]:
                torch.testing.assert_close(values[0], value, rtol=1e-3, atol=1e-5)

            def repeat(loss: Loss, logits: Tensor = logits, target: Tensor = target) -> None:
                for _ in range(repeats):
                    forward_and_backward(loss, logits, target)

            for loss in contestants:
                repeat(loss)
            each = [[timed(lambda loss=loss: repeat(loss)) for loss in contestants] for _ in range(rounds)]  # type: ignore[misc]
            took = statistics.median(one for one, *_ in each) / repeats * 1e6
            ratios = [statistics.median(row[0] / row[place] for row in each) for place in (1, 2)]
            found.append(SmallRow(name, rows, columns, took, *ratios))
    return found


@dataclass(frozen=True)
class CalibrationRow:
    """The smooth calibration error of many predictions, by us, by relplot and by a quadrature at the width that we found."""

    predictions: int
    error: float
    from_quadrature: float
    milliseconds: float
    relplot_milliseconds: float | None = None
    relplot_from_quadrature: float | None = None

    @property
    def times(self) -> float | None:
        return None if self.relplot_milliseconds is None else self.relplot_milliseconds / self.milliseconds


def quadrature(confidence: Tensor, correct: Tensor, width: float) -> float:
    """The definition of the smooth calibration error: a sum over predictions and their mirror images at points of [0, 1]."""
    points = torch.linspace(0, 1, max(256, math.ceil(16 / width)) + 1, dtype=torch.float64)
    reach = math.ceil(4 * width + 1)  # periods of 2 beyond which an image is more than eight widths away
    images = [(sign, 2.0 * period) for period in range(-reach, reach + 1) for sign in (1.0, -1.0)]
    near = [(s, shift) for s, shift in images if max(shift + min(s, 0.0) - 1.0, -shift - max(s, 0.0)) < 8 * width]
    residual = (confidence - correct).to(torch.float64)
    at = confidence.to(torch.float64)
    smoothed = torch.zeros_like(points)
    for sign, shift in near:
        for place, point in enumerate(points.tolist()):
            distance = (at * sign).add_(shift - point).div_(width)
            smoothed[place] += distance.square_().mul_(-0.5).exp_() @ residual
    density = smoothed.abs() / (len(at) * width * math.sqrt(2 * math.pi))
    return float(torch.trapezoid(density, points))


def measure_calibration(count: int, rounds: int) -> list[CalibrationRow]:
    """A classifier that is a little too sure of itself on both sides, and one that is mostly wrong where it is sure."""
    peer = relplot()
    found = []
    for slope in (0.7, -0.5):
        generator = torch.Generator().manual_seed(0)
        confidence = torch.rand(count, generator=generator, dtype=torch.float64)
        chance = 0.5 + slope * (confidence - 0.5)
        correct = (torch.rand(count, generator=generator, dtype=torch.float64) < chance).double()
        value = float(smooth_ece(confidence, correct))
        exact = quadrature(confidence, correct, value)
        row = CalibrationRow(count, value, abs(value - exact), 0.0)
        pairs = []
        for _ in range(rounds):
            ours = timed(lambda: smooth_ece(confidence, correct))  # noqa: B023
            theirs = timed(lambda: peer(confidence.numpy(), correct.numpy())) if peer else math.nan  # noqa: B023
            pairs.append((ours * 1000, theirs * 1000))
        took, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
        row = replace(row, milliseconds=took)
        if peer:
            gap = abs(float(peer(confidence.numpy(), correct.numpy())) - exact)
            row = replace(row, relplot_milliseconds=theirs, relplot_from_quadrature=gap)
        found.append(row)
    return found


def relplot() -> Callable[[Any, Any], float] | None:
    try:
        found: Callable[[Any, Any], float] = module_alone("relplot.metrics").smECE
    except ImportError:
        return None
    return found


def table_of(title: str, *columns: str) -> Table:
    table = Table(*columns, box=None, title=f"\n{title}", title_justify="left", title_style="bold")
    table.columns[0].no_wrap = True
    return table


def setting_table(setting: Setting, rounds: int, rows: list[Row]) -> Table:
    """One row for PyTorch's loss, one for each of ours, and below it those of others."""
    table = table_of(
        f"{setting.title}; rounds: {rounds}", "loss", "ms", "x limit", f"x {setting.torch_name}", "memory", "x ours", "targets"
    )
    for row in rows:
        others = row.by not in ("torch", "lossary")
        label = f"  {row.by}" if others else f"torch {row.loss}" if row.by == "torch" else row.loss
        note = f"value differs by {row.value_gap:.1%}" if row.value_gap > 1e-3 else ""
        if row.missed is not None:
            note = f"not met: {', '.join(row.missed)}" if row.missed else "met"
        ours = f"{row.of_ours:.1f}" if row.of_ours is not None else ""
        numbers = (f"{row.milliseconds:.1f}", f"{row.of_limit:.2f}", f"{row.of_torch:.2f}", f"{row.memory:.2f}")
        table.add_row(label, *numbers, ours, note)
    return table


def bounds_of(setting: Setting) -> str:
    if setting.of_limit is None:
        return "No targets are set here."
    limit = "a copy of the logits and a sum of the target" if setting.soft else "a copy of the logits"
    return (
        f"Targets: {setting.of_limit} x the limit, {limit}; {setting.of_torch} x {setting.torch_name}; "
        f"memory {MOST_MEMORY} x the logits."
    )


def small_table(rows: list[SmallRow]) -> Table:
    table = table_of("small batches", "loss", "shape", "us", "x plain", "x bare", "targets")
    for row in rows:
        numbers = (f"{row.microseconds:.0f}", f"{row.of_plain:.2f}", f"{row.of_bare:.2f}")
        note = f"not met: {', '.join(row.missed)}" if row.missed else "met"
        table.add_row(row.loss, f"{row.rows} x {row.columns}", *numbers, note)
    return table


def calibration_table(rows: list[CalibrationRow]) -> Table:
    heads = ("predictions", "value", "ms", "off", "relplot ms", "relplot off", "times", "target")
    table = table_of("smooth_ece", *heads)
    for row in rows:
        cells = [f"{row.predictions:,}", f"{row.error:.5f}", f"{row.milliseconds:.1f}", f"{row.from_quadrature:.1e}"]
        if row.times is not None:
            target = "met" if row.times >= TIMES_RELPLOT else "not met"
            cells += [f"{row.relplot_milliseconds:.0f}", f"{row.relplot_from_quadrature:.1e}", f"{row.times:.1f}", target]
        table.add_row(*cells)
    return table


def main(
    only: Annotated[str | None, typer.Option(help="Objectives, with commas between them; smooth_ece counts as one.")] = None,
    seconds: Annotated[float, typer.Option(help="How long the rounds may take altogether.")] = 360.0,
    threads: Annotated[int, typer.Option(help="Threads that torch may use.")] = 1,
    quick: Annotated[bool, typer.Option("--quick", help="Small batches, two rounds: to see whether it runs.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
    save: Annotated[Path | None, typer.Option(help="A Markdown file whose section is written anew.")] = None,
) -> None:
    """Measure the losses against the limit, PyTorch's own and other packages, in time and in memory."""
    if save is not None and (only or quick or json):
        raise typer.BadParameter("--save is for the whole table, without --only, --quick and --json")
    torch.set_num_threads(threads)
    console = Console(record=save is not None, width=WIDTH if save or not sys.stdout.isatty() else None, quiet=json)
    chosen = only.split(",") if only else [*specs(), "smooth_ece"]
    left_out = {name: why for name in chosen if name != "smooth_ece" and (why := wanted(spec(name)))}
    names = [name for name in chosen if name != "smooth_ece" and name not in left_out]
    # first of all, as the objects of other packages make Python's collector slower, and gigabytes that were used the allocator
    small = measure_small(names, 3 if quick else 21, 5 if quick else 60)
    present, missing = load_peers(set(names))
    packages = sorted({peer.package for peers in present.values() for peer, _ in peers})
    if "smooth_ece" in chosen and relplot():
        packages.append("relplot")
    elif "smooth_ece" in chosen:
        missing["relplot smECE"] = "it cannot be imported"
    head = ", ".join(map(version_of, ["torch", *packages]))
    console.print(f"{head}; threads: {threads}.")
    if quick:
        console.print("These batches fit into a cache, so their ratios to the limit mean nothing.")
    for label, reason in missing.items():
        console.print(f"Not measured: {label}: {reason}.")
    answer: dict[str, Any] = {"versions": head, "threads": threads, "missing": missing, "left_out": left_out, "settings": []}
    settings = [replace(each, rows=max(64, each.rows // QUICK)) if quick else each for each in SETTINGS]
    whole = sum(each.share for each in settings)
    for setting in settings:
        fitting = [name for name in names if spec(name).family == setting.family]
        fitting = [name for name in fitting if spec(name).soft_targets or not setting.soft]
        if fitting:
            rounds, rows = measure(setting, fitting, seconds * setting.share / whole, 2 if quick else MOST_ROUNDS)
            console.print(setting_table(setting, rounds, rows))
            console.print(bounds_of(setting))
            facts = {"title": setting.title, **asdict(setting), "rounds": rounds}
            answer["settings"].append({**facts, "results": [asdict(row) for row in rows]})
    if small:
        console.print(small_table(small))
        console.print(
            f"Targets: {NO_SLOWER} x the same loss in plain operations, with the rule and the checks of ours and without, at most."
        )
    answer["small"] = [{**asdict(row), "missed": row.missed} for row in small]
    calibration = measure_calibration(20_000 if quick else 1_000_000, 2 if quick else 3) if "smooth_ece" in chosen else []
    if calibration:
        console.print(calibration_table(calibration))
        console.print(
            f"Off: from a quadrature of the definition at the width that we found. Target: {TIMES_RELPLOT:.0f} times faster than "
            "relplot, which looks for the width in steps of 0.001 and cuts its kernel off half an interval away."
        )
    answer["smooth_ece"] = [{**asdict(row), "times": row.times} for row in calibration]
    for why in sorted(set(left_out.values())):
        console.print(f"Left out, {why}: {', '.join(name for name, reason in left_out.items() if reason == why)}.")
    if json:
        typer.echo(json_of.dumps(answer, indent=2))
    if save is not None:
        save_section(save, "losses", COMMAND, console.export_text())


if __name__ == "__main__":
    try:
        typer.run(main)
    except LossaryError as error:
        sys.stderr.write(f"losses: {error}\n")
        sys.exit(2)
