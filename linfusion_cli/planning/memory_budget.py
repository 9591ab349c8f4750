"""How many bytes of activations may wait between two sweeps, and in which tier; for the plan and the engine's store."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Keep = Literal["all", "sums", "nothing"]  # of a level's activations, between two sweeps of the autoencoder
Tier = Literal["device", "memory", "file"]
TIERS: tuple[Tier, ...] = ("device", "memory", "file")  # fastest first
BUFFERS = 2  # of rows on their way to a GPU, and as many from it: one in use, one for the next band (async_copies.py)


WEIGHT_ARENA_BYTES = 1 << 28  # of page-locked RAM, which many weights share


def pinned_bytes(size_bytes: float) -> int:
    """What torch takes of RAM for a page-locked block: the next power of two."""
    return 1 << max(0, math.ceil(size_bytes) - 1).bit_length()


def pinned_weight_bytes(size_bytes: int) -> int:
    """The page-locked RAM for so many bytes of weights: whole arenas, and one for what does not fit their ends."""
    return (-(-size_bytes // WEIGHT_ARENA_BYTES) + 1) * WEIGHT_ARENA_BYTES if size_bytes else 0


def per_tier() -> dict[Tier, float]:
    """No bytes in any tier."""
    return dict.fromkeys(TIERS, 0.0)


@dataclass(frozen=True, slots=True)
class StoreBudget:
    """The bytes that an activation store may hold.

    device_bytes: in the device's memory
    memory_bytes: in RAM beside an accelerator (0 on a CPU, whose device memory is RAM), page-locked for a card
    folder:       of the scratch files, which take the rest
    overlapped:   copies from and to the device run beside the compute, which takes buffers on the device
    largest_device_bytes: of one activation on the device
    """

    device_bytes: float
    memory_bytes: float
    folder: Path
    overlapped: bool = False
    largest_device_bytes: float = math.inf

    @staticmethod
    def unlimited() -> StoreBudget:
        """All of the device's memory."""
        return StoreBudget(math.inf, 0, Path())

    def held_in(self, tier: Tier, size_bytes: float) -> float:
        """The bytes of a tier that an activation takes."""
        return pinned_bytes(size_bytes) if tier == "memory" and self.overlapped else size_bytes

    def tier_for(self, size_bytes: float, device_bytes: float, memory_bytes: float) -> Tier:
        """The fastest tier with `size_bytes` left, while device_bytes and memory_bytes are already in use."""
        if device_bytes + size_bytes <= self.device_bytes and size_bytes <= self.largest_device_bytes:
            return "device"
        in_memory = memory_bytes + self.held_in("memory", size_bytes)
        return "memory" if in_memory <= self.memory_bytes else "file"


@dataclass(slots=True)
class TierUsage:
    """The bytes that lie in each tier now, and the most that ever did.

    The engine's store and the plan's counter allocate through it, in the same order, so they agree on every tier.
    """

    budget: StoreBudget
    held_bytes: dict[Tier, float] = field(default_factory=per_tier)
    peak_bytes: dict[Tier, float] = field(default_factory=per_tier)

    def tier_for(self, size_bytes: float) -> Tier:
        """Where the budget puts `size_bytes` more."""
        return self.budget.tier_for(size_bytes, self.held_bytes["device"], self.held_bytes["memory"])

    def add(self, tier: Tier, size_bytes: float) -> None:
        """Counts an allocation."""
        self.held_bytes[tier] += self.budget.held_in(tier, size_bytes)
        self.peak_bytes[tier] = max(self.peak_bytes[tier], self.held_bytes[tier])

    def remove(self, tier: Tier, size_bytes: float) -> None:
        """Counts the end of an allocation."""
        self.held_bytes[tier] -= self.budget.held_in(tier, size_bytes)


@dataclass(frozen=True, slots=True, eq=False)
class PlannedSlab:
    """An activation that waits in a tier, as the plan sees it. Two slabs of one size are different slabs."""

    tier: Tier
    size_bytes: float


class CostCounter:
    """Counts what one pass takes: slabs by tier, multiply-adds, values, calls, and bytes that are copied.

    macs:         multiply-adds
    values:       activations that come out of sweeps
    calls:        bands of sweeps, each of which starts a layer
    copied_bytes: reads and writes of slabs, by tier
    buffer_bytes: the most that the buffers of copies take in the device's memory and in RAM
    band_values:  the most values of a band that are alive at once, beside the slabs
    """

    def __init__(self, budget: StoreBudget, number_bytes: int, share: float = 1.0) -> None:
        """number_bytes: of one activation (4 for float32). share: the part of each slab that lies here, 0 to 1."""
        self.number_bytes, self.share = number_bytes, share
        self.usage = TierUsage(budget)
        self.macs = self.values = self.band_values = 0.0
        self.calls = 0
        self.copied_bytes, self.buffer_bytes = per_tier(), per_tier()

    @property
    def peak_bytes(self) -> dict[Tier, float]:
        """The most bytes of slabs in each tier."""
        return self.usage.peak_bytes

    def allocate(self, values: float) -> PlannedSlab:
        """A slab for an activation of so many values."""
        size_bytes = self.share * values * self.number_bytes
        slab = PlannedSlab(self.usage.tier_for(size_bytes), size_bytes)
        self.usage.add(slab.tier, size_bytes)
        return slab

    def free(self, *slabs: PlannedSlab) -> None:
        """These slabs are no longer needed."""
        for slab in slabs:
            self.usage.remove(slab.tier, slab.size_bytes)

    def count_copies(self, *slabs: PlannedSlab) -> None:
        """One read or one write of each slab; a slab that is named twice is copied twice."""
        for slab in slabs:
            self.copied_bytes[slab.tier] += slab.size_bytes / self.share  # other ranks copy their parts

    def count_buffers(self, share: float, *slabs: PlannedSlab) -> None:
        """The buffers of a sweep over these slabs, in bands of `share` of their rows (0 to 1].

        A slab that is named twice or more is both read and written: it takes buffers for each. They lie on the device,
        and in RAM too for slabs in files.
        """
        if not self.usage.budget.overlapped:
            return
        bands = 1.0 if share >= 1 else BUFFERS * share
        counts = {slab: min(times, 2) for slab, times in Counter(slabs).items() if slab.tier != "device"}
        on_device = sum(times * bands * slab.size_bytes for slab, times in counts.items())
        each = min(1.0, share)
        in_files = sum(
            times * (bands / each) * pinned_bytes(each * slab.size_bytes)
            for slab, times in counts.items()
            if slab.tier == "file"
        )
        self.buffer_bytes["device"] = max(self.buffer_bytes["device"], on_device)
        self.buffer_bytes["memory"] = max(self.buffer_bytes["memory"], in_files)

    def count_sweep(self, macs: float, values: float, calls: int) -> None:
        """A sweep: its multiply-adds, the values that come out of it, and its number of bands."""
        self.macs += macs
        self.values += values
        self.calls += calls

    def count_band(self, values: float) -> None:
        """A band of so many values is alive at once."""
        self.band_values = max(self.band_values, values)
