"""Measure on a GPU what only a GPU shows: ``python tools/gpu_check.py`` writes one JSON file, within eight minutes.

1. Every registered objective on the device against the processor, value and gradient, and whether its call makes the host wait.
2. Time and peak memory, forward and backward, of five common losses at three sizes, eager and compiled, against PyTorch's own.
3. Losses of pairs against the whole matrix, and pytorch-metric-learning where it is installed.
4. How many kernels the losses start that are made of many small operations.
5. The gradient of ``GradientCache`` with dropout against the plain backward pass.

Parts that do not fit into the time left are named in the file. ``--device cpu`` runs the same on small sizes, to try the script.
"""

import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

import lossary
from lossary.testing import NotApplicable, Subject, subject_of

SECONDS = 460.0  # of the eight minutes, so that the file is written in any case
ROUNDS = 7
COMMON = ("cross_entropy", "focal", "squentropy", "binary_cross_entropy", "set_dice")
SIZES: tuple[tuple[str, tuple[int, ...], torch.dtype], ...] = (
    ("8192 x 1000, float32", (8192, 1000), torch.float32),
    ("8 x 19 x 512 x 512, float32", (8, 19, 512, 512), torch.float32),
    ("4096 x 128256, bfloat16", (4096, 128256), torch.bfloat16),
)
PAIRS = ("sup_con", "multi_similarity", "siglip", "clip", "arcface")
ANCHORS = (4096, 16384, 65536)
MANY_KERNELS = ("neural_ndcg", "list_net", "list_mle", "lambda_loss", "legendretron", "groco", "decoupled_softmax", "video_colbert")


class Bench:
    """A device, the time that is left on it, and how to measure there."""

    def __init__(self, device: str, seconds: float):
        self.device = torch.device(device)
        self.end = time.monotonic() + seconds
        self.small = self.device.type == "cpu"

    def late(self, needed: float = 5.0) -> bool:
        return time.monotonic() + needed > self.end

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def measure(self, run: Callable[[], object]) -> dict[str, float]:
        """The median time in milliseconds, and the most memory in MiB held beside what was there before."""
        run()
        run()
        self.wait()
        held = 0.0
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            before = torch.cuda.memory_allocated(self.device)
            run()
            self.wait()
            held = (torch.cuda.max_memory_allocated(self.device) - before) / 2**20
        times = []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            run()
            self.wait()
            times.append(1e3 * (time.perf_counter() - start))
            if self.late():
                break
        return {"milliseconds": statistics.median(times), "mebibytes": held}

    @contextmanager
    def refusing_to_wait(self) -> Iterator[None]:
        """PyTorch raises where the host would wait for the device."""
        if self.device.type != "cuda":
            yield
            return
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")


def backward_of(loss: Callable[..., Tensor], leaf: Tensor, *rest: Tensor) -> Callable[[], None]:
    """One forward and backward pass, as a function to be timed."""

    def run() -> None:
        leaf.grad = None
        loss(leaf, *rest).backward()

    return run


def conformance(bench: Bench) -> dict[str, Any]:
    """Every objective on the device against the processor."""
    found: dict[str, Any] = {}
    for name in lossary.list_objectives():
        if bench.late():
            found[name] = {"skipped": "no time left"}
            continue
        try:
            found[name] = one_objective(bench, subject_of(name))
        except NotApplicable as reason:
            found[name] = {"skipped": str(reason)}
        except Exception as error:  # whatever it is, it is a finding
            found[name] = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
    return found


def one_objective(bench: Bench, subject: Subject) -> dict[str, Any]:
    """How far value and gradient are from the processor's, and what makes the host wait."""
    here = subject.make().float()
    there = subject.make().float().to(bench.device)
    batch = subject.batch(12, loss=here, dtype=torch.float32)
    moved = batch.mapped(lambda x: x.to(bench.device))

    def once(loss: nn.Module, given: Any) -> tuple[Tensor, list[Tensor]]:
        leaves = {name: given[name].detach().clone().requires_grad_() for name in given.leaves}
        changed = given.changed(leaves)
        value = loss(*changed.arguments, **changed.sides).sum()
        return value, list(torch.autograd.grad(value, list(leaves.values()), allow_unused=True))

    answer: dict[str, Any] = {}
    value, slopes = once(there, moved)
    if not subject.stochastic:
        expected, expected_slopes = once(here, batch)
        answer["value_off"] = float((value.detach().cpu() - expected.detach()).abs() / expected.detach().abs().clamp_min(1e-6))
        pairs = [(a, b) for a, b in zip(slopes, expected_slopes, strict=True) if a is not None and b is not None]
        answer["gradient_off"] = max((float((a.cpu() - b).norm() / b.norm().clamp_min(1e-12)) for a, b in pairs), default=0.0)
    try:
        with bench.refusing_to_wait():
            once(there, moved)
        answer["waits"] = ""
    except RuntimeError as error:
        answer["waits"] = str(error).splitlines()[0][:300]
    return answer


def speed(bench: Bench) -> dict[str, Any]:
    """The five common losses, eager, against PyTorch's own."""
    return {title: rows(bench, shape, dtype, compiled=False) for title, shape, dtype in SIZES}


def compiled(bench: Bench) -> dict[str, Any]:
    """The same under ``torch.compile``; it comes last, as compiling takes longer than everything else."""
    return {title: rows(bench, shape, dtype, compiled=True) for title, shape, dtype in SIZES}


def rows(bench: Bench, shape: tuple[int, ...], dtype: torch.dtype, *, compiled: bool) -> dict[str, Any]:
    """Time and memory of each loss at one size."""
    if bench.small:
        shape = tuple(max(2, side // 16) for side in shape)
    logits = torch.randn(shape, device=bench.device).to(dtype).requires_grad_()
    target = torch.randint(shape[1], (shape[0], *shape[2:]), device=bench.device)
    labels = (torch.rand(shape, device=bench.device) < 0.1).to(dtype)
    found: dict[str, Any] = {}
    if not compiled:
        found["clone"] = bench.measure(logits.detach().clone)
    ours = {name: lossary.create(name) for name in COMMON}
    torchs = {"F.cross_entropy": F.cross_entropy, "F.binary_cross_entropy_with_logits": F.binary_cross_entropy_with_logits}
    every: dict[str, Any] = {**torchs, **ours}
    for name, loss in every.items():
        if bench.late(90.0 if compiled else 10.0):
            found[name] = {"skipped": "no time left"}
            continue
        goal = labels if "binary" in name else target
        found[name] = attempt(bench, torch.compile(loss) if compiled else loss, logits, goal)
    return found


def attempt(bench: Bench, loss: Any, leaf: Tensor, *rest: Tensor) -> dict[str, Any]:
    """Time and memory, or why there are none."""
    try:
        return dict(bench.measure(backward_of(loss, leaf, *rest)))
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}".splitlines()[0][:300]}


def pairs(bench: Bench) -> dict[str, Any]:
    """Losses of pairs, of 256 numbers an embedding and four samples a class, against the whole matrix."""
    found: dict[str, Any] = {}
    for anchors in (256, 512) if bench.small else ANCHORS:
        if bench.late(30.0):
            found[str(anchors)] = {"skipped": "no time left"}
            continue
        x = torch.randn(anchors, 256, device=bench.device, requires_grad=True)
        other = torch.randn(anchors, 256, device=bench.device)
        labels = torch.arange(anchors, device=bench.device) // 4
        taken: dict[str, Any] = {}
        for name in PAIRS:
            if bench.late(15.0):
                break
            sizes: dict[str, Any] = {"num_classes": int(anchors // 4), "embedding_dim": 256} if name == "arcface" else {}
            loss = lossary.create(name, **sizes).to(bench.device)
            taken[name] = attempt(bench, loss, x, other if name in ("siglip", "clip") else labels)
        if anchors <= 16384:
            taken["clip by the whole matrix"] = attempt(bench, whole_matrix, x, other)
            taken |= metric_learning(bench, x, labels)
        found[str(anchors)] = taken
    return found


def whole_matrix(a: Tensor, b: Tensor) -> Tensor:
    """The symmetric contrastive loss with its matrix of all pairs."""
    scores = F.normalize(a) @ F.normalize(b).T / 0.07
    own = torch.arange(len(a), device=a.device)
    return (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)) / 2


def metric_learning(bench: Bench, x: Tensor, labels: Tensor) -> dict[str, Any]:
    """The same of pytorch-metric-learning, where it is installed."""
    try:
        from pytorch_metric_learning import losses
    except ImportError:
        return {}
    return {
        "sup_con of pytorch-metric-learning": attempt(bench, losses.SupConLoss(), x, labels),
        "multi_similarity of pytorch-metric-learning": attempt(bench, losses.MultiSimilarityLoss(), x, labels),
    }


def kernels(bench: Bench) -> dict[str, Any]:
    """How many operations on the device one forward and backward pass starts, and how long it takes."""
    found: dict[str, Any] = {}
    activity = torch.profiler.ProfilerActivity.CPU if bench.small else torch.profiler.ProfilerActivity.CUDA
    for name in MANY_KERNELS:
        if bench.late(10.0):
            found[name] = {"skipped": "no time left"}
            continue
        subject = subject_of(name)
        loss = subject.make().float().to(bench.device)
        batch = subject.batch(64, loss=loss.cpu(), dtype=torch.float32).mapped(lambda x: x.to(bench.device))
        loss = loss.to(bench.device)
        leaves = {leaf: batch[leaf].detach().clone().requires_grad_() for leaf in batch.leaves}
        changed = batch.changed(leaves)

        def run(loss: Any = loss, changed: Any = changed) -> None:
            loss(*changed.arguments, **changed.sides).sum().backward()

        try:
            run()
            with torch.profiler.profile(activities=[activity]) as profile:
                run()
                bench.wait()
            started = sum(event.count for event in profile.key_averages())
            found[name] = {"started": started, **bench.measure(run)}
        except Exception as error:
            found[name] = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
    return found


def gradient_cache(bench: Bench) -> dict[str, Any]:
    """The gradient with dropout, chunk by chunk, against that of the chunks side by side with the same random numbers."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 64), nn.Dropout(0.5), nn.Linear(64, 16)).to(bench.device)
    x, labels = torch.randn(64, 32, device=bench.device), torch.arange(64, device=bench.device) % 8
    loss = lossary.create("sup_con")
    torch.manual_seed(1)
    lossary.nn.GradientCache(model, loss, chunk_size=16).backward(x, labels)
    found = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    model.zero_grad()
    torch.manual_seed(1)
    loss(torch.cat([model(part) for part in x.split(16)]), labels).backward()
    expected = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return {"gradient_off": max(float((a - b).norm() / b.norm()) for a, b in zip(found, expected, strict=True))}


PARTS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "gradient_cache": gradient_cache,
    "conformance": conformance,
    "speed": speed,
    "pairs": pairs,
    "kernels": kernels,
    "compiled": compiled,
}


def main(
    out: Annotated[Path, typer.Option(help="The JSON file to write.")] = Path("build/gpu.json"),
    device: Annotated[str, typer.Option(help="cuda, or cpu to try the script on small sizes.")] = "cuda",
    seconds: Annotated[float, typer.Option(help="The most time to take.")] = SECONDS,
    only: Annotated[str, typer.Option(help=f"Parts to run, separated by commas: {', '.join(PARTS)}.")] = "",
) -> None:
    """Run every part that there is time for, and write what came out after each."""
    wanted = [part.strip() for part in only.split(",") if part.strip()] or list(PARTS)
    unknown = [part for part in wanted if part not in PARTS]
    if unknown:
        raise typer.BadParameter(f"there is no part {unknown[0]!r}; the parts are {', '.join(PARTS)}")
    if device.startswith("cuda") and not torch.cuda.is_available():
        sys.stdout.write("There is no CUDA device here, so nothing was measured; --device cpu tries the script.\n")
        raise typer.Exit(0)
    bench = Bench(device, seconds)
    card = torch.cuda.get_device_name() if bench.device.type == "cuda" else platform.processor() or "processor"
    answer: dict[str, Any] = {"device": card, "torch": torch.__version__, "lossary": lossary.__version__, "parts": {}}
    out.parent.mkdir(parents=True, exist_ok=True)
    for name in wanted:
        start = time.monotonic()
        try:
            result = PARTS[name](bench)
        except Exception as error:  # one part must not lose the others
            result = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
        answer["parts"][name] = {"seconds": round(time.monotonic() - start, 1), **result}
        out.write_text(json.dumps(answer, indent=1), encoding="utf-8")
        sys.stdout.write(f"{name}: {summary(name, result)}\n")
    sys.stdout.write(f"{out} written\n")


def summary(name: str, result: dict[str, Any]) -> str:
    """One line for a person."""
    if "error" in result:
        return str(result["error"])
    if name != "conformance":
        return f"{len(result)} measured"
    rows = {key: row for key, row in result.items() if isinstance(row, dict)}
    failed = [key for key, row in rows.items() if "error" in row]
    off = [key for key, row in rows.items() if not max(row.get("value_off", 0.0), row.get("gradient_off", 0.0)) < 1e-3]
    waiting = [key for key, row in rows.items() if row.get("waits")]
    return f"{len(rows)} objectives; errors: {failed or 'none'}; off: {off or 'none'}; waiting for the device: {waiting or 'none'}"


if __name__ == "__main__":
    typer.run(main)
