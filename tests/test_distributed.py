"""Four processes, and two of them as a group of their own, find what one process finds on the whole batch."""

import os
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tests import ring_worker
from tests.processes import run_together
from tests.ring_worker import CASES, PAIR, alone

import lossary
from lossary.distributed import Ring, all_items, total
from lossary.errors import LossaryError
from lossary.testing._distributed import _loopback

SIZE = 4
Found = list[dict[Any, Any]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What each process found; they are started once, as importing torch takes longer than everything they do."""
    home = tmp_path_factory.mktemp("ring")
    answers = [home / f"answer-{rank}" for rank in range(SIZE)]
    places = os.pathsep.join(str(Path(place).resolve()) for place in sys.path)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "PYTHONPATH": places}
    if _loopback():
        environment["GLOO_SOCKET_IFNAME"] = _loopback()
    command = [sys.executable, ring_worker.__file__, (home / "store").as_uri(), str(SIZE)]
    run_together([[*command, str(rank), answer] for rank, answer in enumerate(answers)], environment)
    return [pickle.loads(answer.read_bytes()) for answer in answers]


@pytest.mark.parametrize("place", range(len(CASES)), ids=[f"{case.loss}-{case.sizes}" for case in CASES])
def test_processes_find_together_what_one_finds_alone(found: Found, place: int) -> None:
    case = CASES[place]
    expected = alone(case)
    scale = max(float(x.abs().max()) for x in expected[1:])
    ranks = range(SIZE) if len(case.sizes) == SIZE else PAIR
    assert scale > 1e-3
    for rank in ranks:
        each = found[rank]["cases"][place]
        assert len(each) == len(expected)
        for mine, whole in zip(each, expected, strict=True):
            torch.testing.assert_close(mine, whole, rtol=1e-9, atol=1e-11 * scale)


def test_a_batch_of_its_own_is_not_the_whole_batch(found: Found) -> None:
    """Without a group the negatives of the others are missing: the test above would see it."""
    case = CASES[0]
    towers = ring_worker.Towers(case.make())
    shards = zip(*(x.split(list(case.sizes)) for x in case.batch()), strict=True)
    apart = torch.stack([towers(*shard).detach() for shard in shards]).mean()
    assert abs(apart - alone(case)[0]) > 0.1


def test_labels_are_gathered_in_the_order_of_the_processes(found: Found) -> None:
    assert [each["labels"] for each in found] == [([0, 1, 1, 2, 2, 2, 3, 3, 3, 3], start) for start in (0, 1, 3, 6)]


def test_what_cannot_be_shared_is_refused_by_all_of_them_in_one_sentence(found: Found) -> None:
    for each in found:
        assert each["refused"].startswith(
            "info_nce: all processes must give items of one width and dtype, got 3 x torch.float32, 3 x"
        )
        assert each["not a group"].startswith("info_nce: group must be 'world', a torch.distributed.ProcessGroup or None, got 'ev")


@pytest.mark.parametrize("loss", ["siglip", "clip"])
def test_a_graph_is_gone_through_twice(found: Found, loss: str) -> None:
    for each in found:
        first, second = each[loss, "twice"]
        assert first.abs().max() > 1e-3
        torch.testing.assert_close(first, second)


def test_a_group_without_processes_is_refused() -> None:
    with pytest.raises(LossaryError, match=r"^clip: group must be None until torch.distributed.init_process_group was called"):
        lossary.create("clip", group="world")(torch.eye(2), torch.eye(2))


def test_one_process_is_a_ring_of_one() -> None:
    x = torch.randn(3, 2, requires_grad=True)
    ring = Ring("mine", x)
    assert (ring.rank, ring.size, ring.total, ring.start, ring.divisor) == (0, 1, 3, 0, 3.0)
    carried = torch.zeros(3, 2)
    for rank, (block,), (travelling,) in ring.tour((x.detach(),), (carried,)):
        assert rank == 0
        travelling += block
    assert carried.equal(x.detach())
    assert all_items("mine", x).items is x
    assert total("mine", x) is x
