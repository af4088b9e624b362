"""Two processes that average their gradients, against one process that sees the whole batch."""

import atexit
import copy
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lossary.testing._subject import Batch, Failed, NotApplicable, Subject, call, first_line
from lossary.testing._worker import FEATURES, Joint, gradients, read, write

TIMEOUT = 1800.0  # seconds, far above what a busy machine needs: processes that fail say so at once
_SIZE = 2
_workers: list[subprocess.Popen[bytes]] = []


def distributed_data_parallel(subject: Subject) -> str:
    """DistributedDataParallel on two processes gives the gradient of one process, as far as the spec declares."""
    if not torch.distributed.is_available():
        raise NotApplicable("this build of torch has no torch.distributed")
    if not subject.decomposable:
        subject.need_spec("a function of the batch as a whole depends on how it is divided")
    said, exact = _two_processes(subject, exchange=False)
    declared = subject.spec is None or subject.spec.distributed == "exact"
    if declared and not exact:
        raise Failed(said)
    if not declared and exact:
        raise Failed(f"declared inexact, yet it is exact: {said}")
    if subject.spec is not None and subject.takes("group"):
        exchanged, exact = _two_processes(subject, exchange=True)
        if not exact:
            raise Failed(f"with the processes as its group: {exchanged}")
        return f"{said}; with the processes as its group: {exchanged}"
    return said


def _two_processes(subject: Subject, exchange: bool) -> tuple[str, bool]:
    """How far the gradients of two processes are from those of one, in words, and whether they are the same."""
    loss = subject.make()
    if any(True for _ in loss.parameters()):
        loss.double()  # like the layer before it, so that gradients can be told apart
    try:
        packed = pickle.dumps(copy.deepcopy(loss))
    except Exception as error:
        raise NotApplicable(f"it cannot be sent to another process: {first_line(str(error))}") from error
    whole = subject.batch(8, loss=loss)
    generator = torch.Generator().manual_seed(4)
    flat = subject.family == "bags"
    features = {
        name: torch.randn(
            *(whole[name].shape if flat else whole[name].shape[:-1]), FEATURES, generator=generator, dtype=torch.float64
        )
        for name in whole.leaves
    }
    widths = {name: 1 if flat else whole[name].shape[-1] for name in whole.leaves}
    batch = whole.changed(features)
    alone = gradients(Joint(copy.deepcopy(loss), widths, flat), batch)
    shards = _run(packed, batch, widths, flat, exchange)
    one, two = (torch.cat([gradient.flatten() for gradient in found]) for found in (alone, shards))
    if one.shape != two.shape:
        raise Failed(f"{two.numel()} gradients instead of {one.numel()}")
    factor = float((one @ two) / (one @ one)) if float(one @ one) else float("nan")
    off = float((two - one).abs().max() / one.abs().max())
    said = f"gradient factor {factor:.6g}, largest difference {off:.2g} of the largest gradient"
    return said, off < (1e-9 if _double(subject) else 1e-5)


def _double(subject: Subject) -> bool:
    """Whether the loss computes in float64 when it is given float64."""
    loss = subject.make()
    value = call(loss, subject.batch(2, loss=loss))
    return bool(value.dtype == torch.float64)


def _run(loss: bytes, batch: Batch, widths: dict[str, int], flat: bool, exchange: bool) -> list[Tensor]:
    """The gradients that the first process holds after both have averaged theirs."""
    job: dict[str, Any] = {
        "loss": loss,
        # processes that exchange their samples need not have equally many
        "shards": [batch.take(rows) for rows in torch.arange(batch.output.shape[0]).split([5, 3] if exchange else [4, 4])],
        "widths": widths,
        "flat": flat,
        "exchange": exchange,
        "path": [str(Path(place).resolve()) for place in sys.path if place == "" or Path(place).is_dir()],
        "size": _SIZE,
    }
    workers = _pool()
    with ThreadPoolExecutor(_SIZE) as threads:
        asked = {threads.submit(_ask, worker, {**job, "rank": rank}): rank for rank, worker in enumerate(workers)}
        found: dict[int, list[Tensor]] = {}
        try:
            for done in as_completed(asked, timeout=TIMEOUT):
                status, content = done.result()
                if status != "done":
                    raise Failed(f"in one of the processes: {first_line(str(content))}")
                found[asked[done]] = [torch.from_numpy(gradient) for gradient in content]
        except (TimeoutError, EOFError, OSError) as error:
            raise Failed(f"the processes gave no answer within {TIMEOUT:g} seconds, or died ({type(error).__name__})") from error
        finally:
            if len(found) < _SIZE:
                _stop()  # frees the threads; a process that still waits for the other one would spoil the next job
    return found[0]


def _ask(worker: "subprocess.Popen[bytes]", job: dict[str, Any]) -> tuple[str, Any]:
    if worker.stdin is None or worker.stdout is None:
        raise OSError("no pipes")
    write(worker.stdin, pickle.dumps(job))
    answer: tuple[str, Any] = pickle.loads(read(worker.stdout))
    return answer


def start() -> None:
    """Start the two processes without waiting for them."""
    if torch.distributed.is_available():
        _pool()


def _pool() -> "list[subprocess.Popen[bytes]]":
    """Two processes, started once for all objectives: importing torch takes longer than the check."""
    if any(worker.poll() is not None for worker in _workers):
        _stop()
    if not _workers:
        quiet = {**os.environ, "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": _loopback()}
        if not quiet["GLOO_SOCKET_IFNAME"]:
            del quiet["GLOO_SOCKET_IFNAME"]
        store = Path(tempfile.mkdtemp(prefix="lossary-"), "store")
        atexit.register(shutil.rmtree, store.parent, ignore_errors=True)
        _workers.extend(
            subprocess.Popen(
                [sys.executable, "-m", "lossary.testing._worker", store.as_uri(), str(rank), str(_SIZE), str(TIMEOUT / 2)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=quiet,
            )
            for rank in range(_SIZE)
        )
    return _workers


def _loopback() -> str:
    """The name of the loopback interface, where it is known: host names need not resolve."""
    return next((name for name in ("lo", "lo0") if Path("/sys/class/net", name).exists()), "")


def _stop() -> None:
    for worker in _workers:
        worker.kill()
        worker.wait()
    for worker in _workers:
        for pipe in (worker.stdin, worker.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:  # what was still buffered for a dead process
                    continue
    _workers.clear()


atexit.register(_stop)
