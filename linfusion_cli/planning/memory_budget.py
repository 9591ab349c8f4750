"""How much may wait between two sweeps, and where; the engine's store and the plan's arithmetic both ask here."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Keep = Literal["all", "sums", "nothing"]  # of a level's activations, between two sweeps of the autoencoder
Place = Literal["device", "memory", "file"]
PLACES: tuple[Place, ...] = ("device", "memory", "file")  # fastest first
BUFFERS = 2  # for rows on their way to a GPU, and from it: one in use, one for the next band; engine/copies.py


@dataclass(frozen=True, slots=True)
class StoreBudget:
    """Bytes that may wait in the device's memory and, for an accelerator, in RAM; the rest goes into files in `folder`.

    overlapped: copies from and to the device run beside the compute, which takes buffers on it
    """

    device_bytes: float
    memory_bytes: float
    folder: Path
    overlapped: bool = False

    @staticmethod
    def unlimited() -> StoreBudget:
        """All of the device's memory."""
        return StoreBudget(math.inf, 0, Path())

    def place(self, device_bytes: float, memory_bytes: float, more: float) -> Place:
        """Where `more` bytes go if so many already lie there: the fastest place that has store_budget."""
        if device_bytes + more <= self.device_bytes:
            return "device"
        return "memory" if memory_bytes + more <= self.memory_bytes else "file"


@dataclass(frozen=True, slots=True)
class Slot:
    """StoreBudget that has been taken."""

    place: Place
    size: float


@dataclass(slots=True)
class CostCounter:
    """Takes and gives back room as the engine's store does, and counts work: multiply-adds, values, bytes through files."""

    store_budget: StoreBudget
    number_bytes: int
    held: dict[Place, float] = field(default_factory=lambda: {"device": 0.0, "memory": 0.0, "file": 0.0})
    peak: dict[Place, float] = field(default_factory=lambda: {"device": 0.0, "memory": 0.0, "file": 0.0})
    macs: float = 0.0
    values: float = 0.0
    calls: int = 0
    moved: dict[Place, float] = field(default_factory=lambda: {"device": 0.0, "memory": 0.0, "file": 0.0})
    widest: float = 0.0  # values of the hungriest band, beside what waits
    buffered: dict[Place, float] = field(default_factory=lambda: {"device": 0.0, "memory": 0.0, "file": 0.0})

    def take(self, values: float) -> Slot:
        """StoreBudget for an activation of so many values."""
        size = values * self.number_bytes
        slot = Slot(self.store_budget.place(self.held["device"], self.held["memory"], size), size)
        self.held[slot.place] += size
        self.peak[slot.place] = max(self.peak[slot.place], self.held[slot.place])
        return slot

    def give_back(self, *slots: Slot) -> None:
        for slot in slots:
            self.held[slot.place] -= slot.size

    def move(self, *slots: Slot) -> None:
        """One read or one write of each."""
        for slot in slots:
            self.moved[slot.place] += slot.size

    def buffer(self, share: float, *slots: Slot) -> None:
        """Bytes of a sweep's buffers, where bands are that share of a slot's rows: for each slot that it reads and each that it writes.

        They lie on the device, and for files in RAM too. A slot that is named twice or more is both read and written.
        """
        if not self.store_budget.overlapped:
            return
        times, bands = Counter(map(id, slots)), 1.0 if share >= 1 else BUFFERS * share
        sizes = {
            key: min(times[key], 2) * bands * slot.size
            for key, slot in ((id(slot), slot) for slot in slots)
            if slot.place != "device"
        }
        files = {id(slot) for slot in slots if slot.place == "file"}
        self.buffered["device"] = max(self.buffered["device"], sum(sizes.values()))
        self.buffered["memory"] = max(self.buffered["memory"], sum(size for key, size in sizes.items() if key in files))

    def work(self, macs: float, values: float, calls: int) -> None:
        """A sweep: its multiply-adds, the values that come out of it, and how many bands it has."""
        self.macs += macs
        self.values += values
        self.calls += calls

    def band(self, values: float) -> None:
        """A band of so many values is alive at once."""
        self.widest = max(self.widest, values)
