"""Every engine gives the same bits, and no way of dying loses more than the units in flight."""

import multiprocessing
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.arena.common import same
from tests.processes import LIMIT, started, wait_until

import lossary
from lossary.arena import Comparison
from lossary.arena.train.engine import Event
from lossary.arena.train.store import Store
from lossary.errors import InvalidValueError, LossaryError, StoreError

OBJECTIVES = [
    "cross_entropy", "focal", "squentropy", "polyloss", "dual_focal", "asymmetric_single_label", "comp_sum", "ldr_kl"
]  # fmt: skip
QUICK: dict[str, Any] = {"objectives": OBJECTIVES, "seeds": 2, "epochs": 4, "learning_rates": [1e-3, 1e-2], "hidden": 8}
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}  # a process that is to be copied has no other threads


@pytest.fixture(scope="module")
def alone() -> Comparison:
    """The reference: one process, from beginning to end."""
    return lossary.compare("wine", store=None, **QUICK)


def test_several_processes_give_the_same_bits(alone: Comparison) -> None:
    events: list[Event] = []
    same(alone, lossary.compare("wine", store=None, workers=2, tell=events.append, **QUICK))
    assert {event.kind for event in events} == {"epoch", "done"}
    assert [event.kind for event in events].count("done") == len(OBJECTIVES)


# A process that has imported everything and compares in a copy of itself, once for each line that it reads.
COMPARE = f"""
import os, sys
import lossary, lossary.arena

def compare():
    lossary.compare("wine", store=sys.argv[1], **{QUICK!r})

for _ in sys.stdin:
    pid = os.fork()
    if not pid:
        compare()
        os._exit(0)
    print(pid, flush=True)
    os.waitpid(pid, 0)
    print("ended", flush=True)
"""

WORKERS = f"""
import multiprocessing, sys
from pathlib import Path
import lossary

def told(event):
    pids = Path(sys.argv[2])
    if event.kind == "epoch" and not pids.exists():
        pids.write_text("")
        pids.write_text(" ".join(str(process.pid) for process in multiprocessing.active_children()))

if __name__ == "__main__":
    lossary.compare("wine", store=sys.argv[1], workers=2, tell=told, **{QUICK!r})
"""

UNGUARDED = """
import lossary
lossary.compare("wine", objectives=["focal", "squentropy"], seeds=2, epochs=1, store=None, workers=2)
"""


def kept(path: Path) -> int:
    """The number of units that are finished in a store."""
    if not path.exists():
        return 0
    with closing(sqlite3.connect(path, timeout=LIMIT)) as connection:
        tables = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'units'").fetchone()[0]
        return int(connection.execute("SELECT count(*) FROM units").fetchone()[0]) if tables else 0


def running(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills copies of a process")
def test_kill_9_at_random_moments_loses_at_most_what_is_in_flight(alone: Comparison, tmp_path: Path) -> None:
    script, store = tmp_path / "compare.py", tmp_path / "arena.sqlite"
    script.write_text(COMPARE)
    moments = random.Random(1)
    pipe = subprocess.PIPE
    with started([sys.executable, script, store], stdin=pipe, stdout=pipe, env=ONE_THREAD) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(3):
            before = kept(store)
            print(file=process.stdin, flush=True)
            pid = int(process.stdout.readline())
            wait_until(lambda before=before, pid=pid: kept(store) > before or not running(pid))  # type: ignore[misc]
            time.sleep(moments.uniform(0, 0.1))  # a unit takes about as long
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            assert process.stdout.readline() == "ended\n"
            assert kept(store) > before or before == len(OBJECTIVES)  # what was finished is there
    same(alone, lossary.compare("wine", store=store, **QUICK))


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks at processes through /proc")
def test_workers_end_with_the_process_they_work_for_and_what_is_finished_is_kept(alone: Comparison, tmp_path: Path) -> None:
    script, pids, store = tmp_path / "workers.py", tmp_path / "pids", tmp_path / "arena.sqlite"
    script.write_text(WORKERS)
    moments = random.Random(2)
    for _ in range(2):
        before = kept(store)
        pids.unlink(missing_ok=True)
        with started([sys.executable, script, store, pids]) as process:
            wait_until(lambda process=process, before=before: kept(store) > before or process.poll() is not None)  # type: ignore[misc]
            time.sleep(moments.uniform(0, 0.1))
            process.kill()
            process.wait()
        workers = [int(pid) for pid in pids.read_text().split()]
        assert len(workers) == 2
        wait_until(lambda workers=workers: not any(map(running, workers)))  # type: ignore[misc]
        assert kept(store) > before or before == len(OBJECTIVES)
    same(alone, lossary.compare("wine", store=store, **QUICK))


def test_a_worker_that_is_killed_is_a_sentence_and_keeps_what_is_finished(alone: Comparison, tmp_path: Path) -> None:
    killed: list[int] = []

    def kill_one(event: Event) -> None:
        if event.kind == "done" and not killed:
            workers = [process.pid for process in multiprocessing.active_children() if process.pid is not None]
            killed.append(workers[0])
            os.kill(workers[0], signal.SIGKILL)

    store = tmp_path / "arena.sqlite"
    slow = {**QUICK, "epochs": 200, "objectives": OBJECTIVES[:4]}  # so that there is work left when the first unit is done
    with pytest.raises(LossaryError, match="a worker process was ended from outside"):
        lossary.compare("wine", store=store, workers=2, tell=kill_one, **slow)
    events: list[Event] = []
    lossary.compare("wine", store=store, tell=events.append, **slow)
    assert 1 <= [event.kind for event in events].count("reused") < 4


def test_a_script_without_a_guard_is_told_so_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(UNGUARDED)
    done = subprocess.run([sys.executable, str(tmp_path / "script.py")], capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1  # of the script itself, and none of a worker
    assert done.stderr.splitlines()[-1] == (
        "lossary.errors.LossaryError: compare: workers=2 starts processes that import the script first, and this script compares"
        ' when it is imported; put the comparison below: if __name__ == "__main__":'
    )


def test_a_full_disk_says_so(tmp_path: Path) -> None:
    store = Store(tmp_path / "arena.sqlite")
    store._connection.execute("PRAGMA max_page_count = 10")  # a disk with room for ten pages
    with pytest.raises(StoreError, match="cannot be used to keep finished work: database or disk is full"):
        store.put("key", {}, {"x": np.random.default_rng(0).normal(size=100_000)})


def test_mistakes() -> None:
    with pytest.raises(InvalidValueError, match="compare: engine must be 'local' or 'ray', got 'slurm'"):
        lossary.compare("wine", store=None, engine="slurm", **QUICK)
    with pytest.raises(InvalidValueError, match="compare: workers must be an integer >= 1, got 0"):
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
