"""Fetches what the next band will read while a band is computed, from slabs that are not on the device."""

from __future__ import annotations

import math
import weakref
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from linfusion_cli.engine.memory.async_copies import Copies, OffDeviceSlab, overlap
from linfusion_cli.geometry import Band

REQUESTS = 2  # of one slab in a band: by a convolution and by a skip. More come from random access: not predicted


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class CopiedSlab:
    """A slab off the device whose rows are copied to the device and from it."""

    stored: OffDeviceSlab
    prefetcher: Prefetcher

    def read(self, band: Band) -> Tensor:
        return self.prefetcher.read(self, band)

    def write(self, band: Band, rows: Tensor) -> None:
        self.prefetcher.write(self, band, rows)


Reference = weakref.ref[CopiedSlab]  # so a slab's space is free when its field is garbage, not after its last copy


@dataclass(frozen=True, slots=True)
class _Prefetched:
    """Rows on their way to the device, before they are asked for."""

    slab: Reference
    band: Band
    rows: Tensor
    event: Any

    def holds(self, slab: CopiedSlab, band: Band) -> bool:
        return self.slab() is slab and self.band.top <= band.top and band.bottom <= self.band.bottom

    def part(self, band: Band) -> Tensor:
        return self.rows[band.top - self.band.top : band.bottom - self.band.top]


class Prefetcher:
    """Reads and writes the slabs of one store, and guesses each band's reads from those of the band before.

    hits:       requests that found their rows on the way
    peak_bytes: the most that the buffers of reads and writes held on the device
    """

    def __init__(self, copies: Copies) -> None:
        self.copies = copies
        self.hits = self.peak_bytes = 0
        self._prefetched: list[_Prefetched] = []
        self._requests: list[tuple[Reference, Band]] = []
        self._computed: deque[Any] = deque()  # events of bands that the device may still compute

    def read(self, slab: CopiedSlab, band: Band) -> Tensor:
        """Rows (band.height, width, channels) on the device, which the compute may use from here on."""
        self._requests.append((weakref.ref(slab), band))
        for prefetched in self._prefetched:
            if prefetched.holds(slab, band):
                self.hits += 1
                self.copies.streams.join(prefetched.rows, prefetched.event)
                return prefetched.part(band)
        rows, event = self.copies.upload(slab.stored, band)
        self.copies.streams.join(rows, event)
        return rows

    def write(self, slab: CopiedSlab, band: Band, rows: Tensor) -> None:
        """Sends rows away, which must not be changed afterwards.

        Raises OutputError, perhaps of an earlier write, if the disk fails.
        """
        self._prefetched = [
            prefetched
            for prefetched in self._prefetched
            if not (prefetched.slab() is slab and overlap(prefetched.band, band))
        ]
        self.copies.write(slab, slab.stored, band, rows)
        self._record_peak(0)

    def start_sweep(self) -> None:
        """A sweep begins: the requests of the one before say nothing about it."""
        self._prefetched.clear()
        self._requests.clear()

    def look_ahead(self, band: Band, following: Band, height: int) -> None:
        """Fetches for band `following` what `band` read, as much further down, in a sweep over `height` rows."""
        predicted = list(self._predicted(band, following, height)) if following.height else []
        in_use = self._prefetched_bytes  # the compute of `band` may still read them
        self.start_sweep()
        if predicted:
            self._limit_lead()
        for slab, rows in predicted:
            upload = self.copies.upload(slab.stored, rows)
            self._prefetched.append(_Prefetched(weakref.ref(slab), rows, *upload))
        self._record_peak(in_use)

    def release(self) -> None:
        """Frees all buffers: memory ran out."""
        self.start_sweep()
        self.copies.flush()

    def _predicted(self, band: Band, following: Band, height: int) -> Iterator[tuple[CopiedSlab, Band]]:
        requests: dict[CopiedSlab, list[Band]] = {}
        for reference, request in self._requests:
            if (slab := reference()) is not None:
                requests.setdefault(slab, []).append(request)
        for slab, bands in requests.items():
            if len(bands) <= REQUESTS:
                rows = slab.stored.height
                moved = [next_request(asked, band, following, rows / height, rows) for asked in bands]
                yield slab, Band(min(each.top for each in moved), max(each.bottom for each in moved))

    def _limit_lead(self) -> None:
        """Waits for the band before the last: a host further ahead would queue rows before memory is free again."""
        self._computed.append(self.copies.streams.mark())
        if len(self._computed) > 1:
            self.copies.streams.finish(self._computed.popleft())

    @property
    def _prefetched_bytes(self) -> int:
        return sum(prefetched.rows.nbytes for prefetched in self._prefetched)

    def _record_peak(self, in_use_bytes: int) -> None:
        held = self._prefetched_bytes + self.copies.pending_bytes + in_use_bytes
        self.peak_bytes = max(self.peak_bytes, held)


def next_request(asked: Band, band: Band, following: Band, scale: float, height: int) -> Band:
    """The rows that `following` will read if `band` read `asked`: as much further down, within rows 0 to `height`.

    scale: rows of the slab per row of the sweep; where that is not whole, the result is up to a row larger.
    At the image's upper edge, where the halo was cut off, the halo above is taken to be that below.
    """
    bottom = asked.bottom + (following.bottom - band.bottom) * scale
    halo = max(0.0, asked.bottom - band.bottom * scale)
    top = asked.top + (following.top - band.top) * scale if asked.top else following.top * scale - halo
    last = min(height, math.ceil(bottom))
    return Band(min(max(0, math.floor(top)), last - 1), last)
