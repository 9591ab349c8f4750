"""Slabs go to the fastest tier with space, in the order of the requests; every byte is counted and given back."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linfusion_cli.planning.memory_budget import (
    WEIGHT_ARENA_BYTES,
    CostCounter,
    StoreBudget,
    TierUsage,
    per_tier,
    pinned_bytes,
    pinned_weight_bytes,
)

BUDGET = StoreBudget(100, 50, Path("scratch"))


@pytest.mark.parametrize(
    ("size", "device", "memory", "tier"),
    [
        (100, 0, 0, "device"),
        (101, 0, 0, "file"),
        (50, 51, 0, "memory"),
        (50, 51, 1, "file"),
        (1, 100, 50, "file"),
        (0, 100, 50, "device"),
    ],
)
def test_the_fastest_tier_with_space(size: int, device: int, memory: int, tier: str) -> None:
    assert BUDGET.tier_for(size, device, memory) == tier


def test_an_unlimited_budget_is_all_on_the_device() -> None:
    assert StoreBudget.unlimited().tier_for(1e30, 1e30, 0) == "device"


@given(sizes=st.lists(st.integers(1, 80), max_size=20))
@settings(deadline=None)
def test_no_tier_is_ever_over_its_budget(sizes: list[int]) -> None:
    usage = TierUsage(BUDGET)
    tiers = []
    for size in sizes:
        tiers.append(usage.tier_for(size))
        usage.add(tiers[-1], size)
    assert usage.held_bytes["device"] <= 100
    assert usage.held_bytes["memory"] <= 50
    assert sum(usage.held_bytes.values()) == sum(sizes)
    for tier, size in zip(tiers, sizes, strict=True):
        usage.remove(tier, size)
    assert usage.held_bytes == per_tier()
    assert sum(usage.peak_bytes.values()) == sum(sizes)


def test_a_counter_frees_what_it_allocated_and_keeps_the_peak() -> None:
    counter = CostCounter(BUDGET, number_bytes=4)
    one, other = counter.allocate(25), counter.allocate(5)
    assert (one.tier, other.tier) == ("device", "memory")
    counter.free(one)
    assert counter.allocate(25).tier == "device"
    assert counter.peak_bytes == {"device": 100, "memory": 20, "file": 0}


def test_copies_sweeps_and_bands_add_up() -> None:
    counter = CostCounter(StoreBudget(0, 0, Path()), number_bytes=2)
    slab = counter.allocate(10)
    counter.count_copies(slab, slab)
    counter.count_sweep(macs=5, values=3, calls=2)
    counter.count_sweep(macs=5, values=3, calls=2)
    counter.count_band(7)
    counter.count_band(4)
    assert counter.copied_bytes["file"] == 40
    assert (counter.macs, counter.values, counter.calls, counter.band_values) == (10, 6, 4, 7)


def test_buffers_of_copies_beside_the_compute() -> None:
    """Two of a band for each read and each write, on the device; slabs in files take them in RAM too."""
    counter = CostCounter(StoreBudget(8, 64, Path(), overlapped=True), number_bytes=4)
    on_device, in_memory, in_file = counter.allocate(2), counter.allocate(10), counter.allocate(10)
    counter.count_buffers(0.1, on_device, in_memory, in_file, in_file)
    assert counter.buffer_bytes["device"] == pytest.approx(2 * 0.1 * 40 + 2 * 2 * 0.1 * 40)
    assert counter.buffer_bytes["memory"] == pytest.approx(2 * 2 * 0.1 * 40)
    counter.count_buffers(0.3, in_file)
    assert counter.buffer_bytes["memory"] == pytest.approx(2 * 16), "12 bytes in a page-locked block of 16"


def test_without_overlap_there_are_no_buffers() -> None:
    counter = CostCounter(StoreBudget(0, 40, Path()), number_bytes=4)
    counter.count_buffers(0.1, counter.allocate(10))
    assert counter.buffer_bytes == per_tier()


@given(size=st.integers(1, 1 << 45))
@settings(deadline=None)
def test_page_locked_blocks_are_the_next_power_of_two(size: int) -> None:
    block = pinned_bytes(size)
    assert block.bit_count() == 1
    assert block // 2 < size <= block


def test_activations_beside_a_card_are_counted_as_torch_holds_them() -> None:
    usage = TierUsage(StoreBudget(0, 100, Path(), overlapped=True))
    assert usage.tier_for(60) == "memory"
    usage.add("memory", 60)
    assert usage.held_bytes["memory"] == 64
    assert usage.tier_for(33) == "file", "64 + 64 is more than 100"
    assert usage.tier_for(32) == "memory"
    usage.remove("memory", 60)
    assert usage.held_bytes == per_tier()


def test_weights_share_whole_arenas() -> None:
    assert pinned_weight_bytes(0) == 0
    assert pinned_weight_bytes(1) == 2 * WEIGHT_ARENA_BYTES
    assert pinned_weight_bytes(20 * WEIGHT_ARENA_BYTES) < 1.1 * 20 * WEIGHT_ARENA_BYTES
