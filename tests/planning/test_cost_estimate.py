"""The time of a pass, and the ways to keep less of an autoencoder's activations."""

from pathlib import Path

import pytest

from linfusion_cli.planning.cost_estimate import Phase, _joined, _keeps, work_of
from linfusion_cli.planning.memory_budget import CostCounter, StoreBudget
from linfusion_cli.system.speed import Speed

SPEED = Speed(
    macs_per_second=10,
    values_per_second=5,
    link_bytes_per_second=4,
    file_bytes_per_second=2,
    call_seconds=0.5,
    start_seconds=1,
    measured=True,
)


def phase(macs: float, peak_bytes: int, file_bytes: int) -> Phase:
    return Phase(
        name="denoise",
        stage=1,
        total=4,
        unit="steps",
        macs=macs,
        peak_bytes=peak_bytes,
        ram_bytes=0,
        file_bytes=file_bytes,
        seconds=macs / 10,
    )


@pytest.mark.parametrize(("memory_bytes", "copying"), [(100, 12 / 4), (0, 12 / 2)])
def test_time_is_work_and_copies(memory_bytes: int, copying: float) -> None:
    cost = CostCounter(StoreBudget(0, memory_bytes, Path()), number_bytes=4)
    cost.count_copies(cost.allocate(3))
    cost.count_sweep(macs=20, values=10, calls=4)
    assert work_of(cost).seconds(SPEED) == 20 / 10 + 10 / 5 + 4 * 0.5 + copying
    assert work_of(cost, 3).seconds(SPEED) == 3 * work_of(cost).seconds(SPEED)


def test_copies_on_the_device_take_no_time() -> None:
    cost = CostCounter(StoreBudget.unlimited(), number_bytes=4)
    cost.count_copies(cost.allocate(3))
    assert work_of(cost).seconds(SPEED) == 0


def test_two_branches_add_their_work_and_share_the_memory() -> None:
    both = _joined(phase(10, 7, 0), phase(20, 5, 3))
    assert (both.macs, both.seconds, both.peak_bytes, both.file_bytes, both.total) == (30, 3, 7, 3, 4)


def test_less_is_kept_at_higher_resolutions_and_the_deepest_level_keeps_its_sums() -> None:
    keeps = list(_keeps(3))
    order = {"nothing": 0, "sums": 1, "all": 2}
    assert len(keeps) == len(set(keeps)) == 9
    assert all([order[keep] for keep in each] == sorted(order[keep] for keep in each) for each in keeps)
    assert all(each[-1] != "nothing" for each in keeps)
    assert ("all",) * 3 in keeps


def test_copies_beside_the_compute_take_time_only_where_they_take_longer() -> None:
    for copied, seconds in ((3, 6.0), (30, 30.0)):
        cost = CostCounter(StoreBudget(0, 1000, Path(), overlapped=True), number_bytes=4)
        cost.count_copies(cost.allocate(copied))
        cost.count_sweep(macs=20, values=10, calls=4)
        assert work_of(cost).seconds(SPEED) == seconds
