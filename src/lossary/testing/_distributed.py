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
from lossary.testing._worker import Joint, gradients, read, write

TIMEOUT = 60.0
_SIZE = 2
_workers: list[subprocess.Popen[bytes]] = []


def distributed_data_parallel(subject: Subject) -> str:
    """DistributedDataParallel on two processes gives the gradient of one process, as far as the spec declares."""
    if not torch.distributed.is_available():
        raise NotApplicable("this build of torch has no torch.distributed")
    if not subject.decomposable:
        subject.need_spec("a loss of bags depends on how they are divided")
    loss = subject.make()
    if any(True for _ in loss.parameters()):
        loss.double()  # like the layer before it, so that gradients can be told apart
    try:
        packed = pickle.dumps(copy.deepcopy(loss))
    except Exception as error:
        raise NotApplicable(f"it cannot be sent to another process: {first_line(str(error))}") from error
    features = torch.randn(8, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    batch = subject.batch(8, loss=loss)._replace(output=features)
    outputs = 1 if subject.family == "bags" else subject.inputs.width
    joint = Joint(copy.deepcopy(loss), 3, outputs, flat=subject.family == "bags")
    alone = gradients(joint, batch)
    shards = _run(packed, batch, outputs, joint.flat)
    one, two = (torch.cat([gradient.flatten() for gradient in found]) for found in (alone, shards))
    if one.shape != two.shape:
        raise Failed(f"{two.numel()} gradients instead of {one.numel()}")
    factor = float((one @ two) / (one @ one)) if float(one @ one) else float("nan")
    off = float((two - one).abs().max() / one.abs().max())
    said = f"gradient factor {factor:.6g}, largest difference {off:.2g} of the largest gradient"
    exact = off < (1e-9 if _double(subject) else 1e-5)
    declared = subject.spec is None or subject.spec.distributed == "exact"
    if declared and not exact:
        raise Failed(said)
    if not declared and exact:
        raise Failed(f"declared inexact, yet it is exact: {said}")
    return said


def _double(subject: Subject) -> bool:
    """Whether the loss computes in float64 when it is given float64."""
    value = call(subject.make(), subject.inputs.output(2), subject.inputs.target(2))
    return bool(value.dtype == torch.float64)


def _run(loss: bytes, batch: Batch, outputs: int, flat: bool) -> list[Tensor]:
    """The gradients that the first process holds after both have averaged theirs."""
    job: dict[str, Any] = {
        "loss": loss,
        "shards": [tuple(batch.take(rows)) for rows in torch.arange(batch.output.shape[0]).chunk(_SIZE)],
        "outputs": outputs,
        "flat": flat,
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
