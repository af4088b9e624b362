"""Where units of work are done: in this process, in several processes of this machine, or on a Ray cluster.

Only the process that compares writes to the store, as soon as a unit comes back. Units are trained on one thread from what the
protocol says and nothing else, so every engine gives the same bits.
"""

import contextlib
import multiprocessing
import multiprocessing.process
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from lossary._core.extras import require
from lossary._core.parameters import OneOf, PositiveCount, checked
from lossary.arena.data.dataset import Data
from lossary.arena.plan.protocol import Protocol
from lossary.arena.tasks import Candidate
from lossary.arena.train.store import Store
from lossary.arena.train.unit_of_work import Unit, pack, run_unit, splits_of, unpack
from lossary.errors import LossaryError

EngineName = Literal["local", "ray"]
ENGINES: tuple[EngineName, ...] = ("local", "ray")
EventKind = Literal["reused", "epoch", "done"]
Finished = Iterator[tuple[Candidate, Unit]]
Say = Callable[[EventKind, Candidate, int], None]


@dataclass(frozen=True)
class Event:
    """Something a watcher may want to show: a unit was taken from the store, ended an epoch, or is finished."""

    kind: EventKind
    candidate: Candidate
    unit: int  # from 1
    units: int
    epoch: int
    epochs: int


@checked("compare")
def run_protocol(
    data: Data,
    protocol: Protocol,
    store: Store | None,
    tell: Callable[[Event], None] | None = None,
    *,
    engine: Annotated[str, OneOf(ENGINES)] = "local",
    workers: PositiveCount = 1,
) -> list[Unit]:
    """All units of a protocol, each from the store where it was kept there, and kept as soon as it is finished."""
    numbers = {candidate.label: number for number, candidate in enumerate(protocol.candidates, start=1)}

    def say(kind: EventKind, candidate: Candidate, epoch: int) -> None:
        if tell is not None:
            tell(Event(kind, candidate, numbers[candidate.label], len(numbers), epoch, protocol.recipe.epochs))

    units: dict[str, Unit] = {}
    missing = []
    for candidate in protocol.candidates:
        kept = store.get(protocol.unit_key(candidate)) if store is not None else None
        if kept is None:
            missing.append(candidate)
            continue
        units[candidate.label] = unpack(candidate, *kept)
        say("reused", candidate, protocol.recipe.epochs)
    if missing:
        for candidate, unit in _finished(data, protocol, missing, say, engine, min(workers, len(missing))):
            if store is not None:
                store.put(protocol.unit_key(candidate), *pack(unit))
            units[candidate.label] = unit
            say("done", candidate, protocol.recipe.epochs)
    return [units[candidate.label] for candidate in protocol.candidates]


def _finished(data: Data, protocol: Protocol, missing: Sequence[Candidate], say: Say, engine: str, workers: int) -> Finished:
    if engine == "ray":
        return _on_ray(data, protocol, missing)
    return _in_processes(data, protocol, missing, say, workers) if workers > 1 else _here(data, protocol, missing, say)


def _here(data: Data, protocol: Protocol, missing: Sequence[Candidate], say: Say) -> Finished:
    splits = splits_of(data, protocol)
    for candidate in missing:

        def progress(epoch: int, candidate: Candidate = candidate) -> None:
            say("epoch", candidate, epoch)

        yield candidate, run_unit(protocol, candidate, splits, progress)


_NOT_GUARDED = 86  # the exit code of a worker that was about to start workers of its own
# What a worker process was given when it started, and what it made of it.
_worker: dict[str, Any] = {}


def _start_worker(data: Data, protocol: Protocol, messages: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that compares, which ends its workers
    parent = multiprocessing.process.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _worker.update(protocol=protocol, messages=messages, splits=splits_of(data, protocol))


def _end_with(parent: Any) -> None:
    """A worker whose parent was killed has nobody to work for."""
    parent.join()
    os._exit(1)


def _work(place: int) -> Unit:
    protocol: Protocol = _worker["protocol"]
    messages = _worker["messages"]
    return run_unit(protocol, protocol.candidates[place], _worker["splits"], lambda epoch: messages.put((place, epoch)))


def _in_processes(data: Data, protocol: Protocol, missing: Sequence[Candidate], say: Say, workers: int) -> Finished:
    context = multiprocessing.get_context("spawn")
    messages = context.Queue()
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(data, protocol, messages))
    waiting: dict[Future[Unit], Candidate] = {}
    processes: list[Any] = []
    try:
        for candidate in missing:
            waiting[_submit(pool, protocol.candidates.index(candidate))] = candidate
        processes = list((pool._processes or {}).values())
        while waiting:
            ready, _ = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
            with contextlib.suppress(queue.Empty):
                while True:
                    place, epoch = messages.get_nowait()
                    say("epoch", protocol.candidates[place], epoch)
            for future in ready:
                yield waiting.pop(future), future.result()
    except BrokenProcessPool:
        raise LossaryError(_why_broken(processes, workers)) from None
    finally:
        for process in processes:
            if waiting and process.is_alive():
                process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)
        messages.close()


def _submit(pool: ProcessPoolExecutor, place: int) -> "Future[Unit]":
    try:
        return pool.submit(_work, place)
    except BrokenProcessPool:
        raise
    except RuntimeError as error:
        if "bootstrapping" not in str(error):
            raise
        # This is a worker, which imports the script and so came to the comparison again: the process that compares says why.
        raise SystemExit(_NOT_GUARDED) from None


def _why_broken(processes: Sequence[Any], workers: int) -> str:
    for process in processes:
        process.join()
    if any(process.exitcode == _NOT_GUARDED for process in processes):
        return (
            f"compare: workers={workers} starts processes that import the script first, and this script compares when it is"
            ' imported; put the comparison below: if __name__ == "__main__":'
        )
    return "a worker process was ended from outside, perhaps for want of memory; finished objectives are kept, run it again"


def _on_ray(data: Data, protocol: Protocol, missing: Sequence[Candidate]) -> Finished:
    require("the engine ray", "ray")
    import ray

    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False)  # or the cluster that RAY_ADDRESS names
    shared = ray.put((data, protocol))
    # A node that is lost takes its units with it; Ray does them again elsewhere, with the same result.
    remote = ray.remote(num_cpus=1, max_retries=-1)(_ray_unit)
    waiting = {remote.remote(shared, protocol.candidates.index(candidate)): candidate for candidate in missing}
    while waiting:
        ready, _ = ray.wait(list(waiting), num_returns=1)
        for reference in ready:
            yield waiting.pop(reference), ray.get(reference)


def _ray_unit(shared: tuple[Data, Protocol], place: int) -> Unit:
    data, protocol = shared
    return run_unit(protocol, protocol.candidates[place], splits_of(data, protocol))
