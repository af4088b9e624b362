"""Every engine gives the same bits, and no way of dying loses more than the units in flight."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.arena.common import same

import lossary
from lossary.arena import Comparison, load
from lossary.arena.engine import Event
from lossary.arena.protocol import make_protocol
from lossary.arena.store import Store
from lossary.errors import InvalidValueError, LossaryError, StoreError

OBJECTIVES = [
    "cross_entropy", "focal", "squentropy", "polyloss", "dual_focal", "asymmetric_single_label", "comp_sum", "ldr_kl"
]  # fmt: skip
QUICK: dict[str, Any] = {"objectives": OBJECTIVES, "seeds": 2, "epochs": 4, "learning_rates": [1e-3, 1e-2], "hidden": 8}


@pytest.fixture(scope="module")
def alone() -> Comparison:
    """The reference: one process, from beginning to end."""
    return lossary.compare("wine", store=None, **QUICK)


def test_several_processes_give_the_same_bits(alone: Comparison) -> None:
    events: list[Event] = []
    same(alone, lossary.compare("wine", store=None, workers=2, tell=events.append, **QUICK))
    assert {event.kind for event in events} == {"epoch", "done"}
    assert [event.kind for event in events].count("done") == len(OBJECTIVES)


COMPARE = f"""
import lossary, sys
QUICK = {QUICK!r}
if __name__ == "__main__":
    lossary.compare("wine", store=sys.argv[1], workers=int(sys.argv[2]), **QUICK)
"""


def kept(path: Path) -> int:
    """How many units are finished in a store."""
    if not path.exists():
        return 0
    protocol = make_protocol(load("wine"), **QUICK)
    store = Store(path)
    try:
        return sum(store.get(protocol.unit_key(candidate)) is not None for candidate in protocol.candidates)
    finally:
        store.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_kill_9_at_random_moments_loses_at_most_what_is_in_flight(alone: Comparison, tmp_path: Path, workers: int) -> None:
    script, store = tmp_path / "compare.py", tmp_path / "arena.sqlite"
    script.write_text(COMPARE)
    moments = random.Random(workers)
    before = 0
    for _ in range(3):
        process = subprocess.Popen([sys.executable, str(script), str(store), str(workers)])
        deadline = time.monotonic() + 120
        while process.poll() is None and kept(store) <= before and time.monotonic() < deadline:
            time.sleep(0.05)  # until it has got further than the last one
        time.sleep(moments.uniform(0, 0.1))  # a unit takes about as long
        process.send_signal(signal.SIGKILL)
        process.wait()
        after = kept(store)
        assert after > before or before == len(OBJECTIVES)  # what was finished is there
        before = after
    same(alone, lossary.compare("wine", store=store, **QUICK))


WORKERS = """
import os, sys, time
from pathlib import Path
import lossary
from lossary.arena import engine

def told(event):
    if event.kind == "done":
        Path(sys.argv[2]).write_text(" ".join(str(p.pid) for p in __import__("multiprocessing").active_children()))

if __name__ == "__main__":
    lossary.compare("wine", store=sys.argv[1], workers=2, seeds=2, epochs=400, learning_rates=[1e-3], hidden=8, tell=told)
"""


def running(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def start_with_workers(tmp_path: Path) -> tuple[subprocess.Popen[str], list[int]]:
    script, pids = tmp_path / "workers.py", tmp_path / "pids"
    script.write_text(WORKERS)
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "arena.sqlite"), str(pids)], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not (pids.exists() and pids.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return process, [int(pid) for pid in pids.read_text().split()]


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks at processes through /proc")
def test_workers_do_not_outlive_the_process_they_work_for(tmp_path: Path) -> None:
    process, pids = start_with_workers(tmp_path)
    assert len(pids) == 2
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 20
    while any(map(running, pids)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(running, pids))


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks at processes through /proc")
def test_a_worker_that_is_killed_is_a_sentence_and_keeps_what_is_finished(tmp_path: Path) -> None:
    process, pids = start_with_workers(tmp_path)
    os.kill(pids[0], signal.SIGKILL)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "LossaryError: a worker process was ended from outside" in errors


def test_a_full_disk_says_so(tmp_path: Path) -> None:
    store = Store(tmp_path / "arena.sqlite")
    store._connection.execute("PRAGMA max_page_count = 10")  # a disk with room for ten pages
    with pytest.raises(StoreError, match="cannot be used to keep finished work: database or disk is full"):
        store.put("key", {}, {"x": np.random.default_rng(0).normal(size=100_000)})


def test_mistakes() -> None:
    with pytest.raises(InvalidValueError, match="engine must be one of local, ray, got 'slurm'"):
        lossary.compare("wine", store=None, engine="slurm", **QUICK)
    with pytest.raises(InvalidValueError, match="workers must be at least 1, got 0"):
        lossary.compare("wine", store=None, workers=0, **QUICK)


def test_ray_that_is_not_installed_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(LossaryError, match=r"the engine ray needs Ray; install it with: pip install 'lossary\[ray\]'"):
        lossary.compare("wine", store=None, engine="ray", **QUICK)


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A Ray cluster of three nodes on this machine; the head does no work, so that a lost node takes units with it."""
    import ray
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    made.add_node(num_cpus=1)
    ray.init(address=made.address, log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ray_gives_the_same_bits_though_a_node_is_killed_midway(alone: Comparison, cluster: Any) -> None:
    doomed = cluster.add_node(num_cpus=1)
    kinds: list[str] = []

    def told(event: Event) -> None:
        kinds.append(event.kind)
        if len(kinds) == 2:
            cluster.remove_node(doomed, allow_graceful=False)

    result = lossary.compare("wine", store=None, engine="ray", tell=told, **QUICK)
    assert kinds == ["done"] * len(OBJECTIVES)
    same(alone, result)
