"""Parcels between processes: what arrives, which bytes are counted, and what is said of a process that is gone."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rank_work import halves, ring
from ranks import SIZES, Ranks

from linfusion_cli.engine.distributed.process_group import connect
from linfusion_cli.errors import RanksError

pytestmark = pytest.mark.slow  # all of them together


@pytest.mark.parametrize("size", SIZES)
def test_neighbours_sums_and_objects(ranks: Ranks, size: int) -> None:
    every = list(range(size))
    for rank, (got, parts, total, objects) in enumerate(ranks.run(size, ring)):
        assert got == [float((rank - 1) % size)] * 3
        assert parts == every
        assert total == sum(every)
        assert objects == every


def test_two_halves(ranks: Ranks) -> None:
    assert ranks.run(7, halves) == [(0, 3)] * 3 + [(3, 4)] * 4


def test_who_does_not_come_is_waited_for_no_longer_than_the_timeout(tmp_path: Path) -> None:
    with pytest.raises(RanksError, match="rank 0 of 2 did not meet the others within 1 seconds at file://"):
        connect(0, 2, torch.device("cpu"), f"file://{tmp_path}/rendezvous", 1.0)


LOSES_ITS_NEIGHBOUR = """
import os, sys, torch
from linfusion_cli.engine.distributed.process_group import Parcel, connect
rank = int(sys.argv[1])
group = connect(rank, 2, torch.device("cpu"), "file://" + sys.argv[2], float(sys.argv[3]))
group.all_gathered(torch.zeros(1))
if rank:
    if sys.argv[4] == "dead":
        os._exit(9)
    import time
    time.sleep(60)
from linfusion_cli.errors import RanksError
try:
    group.exchange([], [Parcel(1, torch.empty(3))])
except RanksError as error:
    print(error)
    sys.stdout.flush()
    os._exit(error.exit_code)
"""


@pytest.mark.parametrize("how", ["dead", "silent"])
def test_a_lost_process_is_named(tmp_path: Path, how: str) -> None:
    """A dead one is noticed at once, a silent one after the timeout."""
    command = [sys.executable, "-c", LOSES_ITS_NEIGHBOUR]
    more = [str(tmp_path / "rendezvous"), "5", how]
    other = subprocess.Popen([*command, "1", *more], cwd=Path(__file__).parents[3])
    done = subprocess.run(
        [*command, "0", *more], capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[3]
    )
    other.kill()
    other.wait()
    assert done.returncode == RanksError.exit_code, done.stderr
    assert "rank 0: another rank ended or was silent for 5 seconds" in done.stdout
